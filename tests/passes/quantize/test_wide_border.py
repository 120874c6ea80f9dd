"""InsertQDQ, rule 5: what int16 nodes read of an 8-bit value, as graphs and as numbers."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.intersection import unsigned
from qcompile.passes.quantize.insert_qdq import VALUE_KEY
from qcompile.targets.catalog import load_target
from tests.passes.planning import EXECUTOR, pictures, planned, session
from tests.passes.quantize.inserting import inserted, lines, net

TARGET = unsigned(load_target("tflite-arm64"))

GOLDEN: dict[str, tuple[str, list[str]]] = {
    "one reader": (
        "c = Conv (x, w) y = Mul (c, k)",
        [
            "x_quantized = Q(x)",
            "x_dequantized = DQ(x_quantized)",
            "w_dequantized = DQ(w_quantized)",
            "c = Conv(x_dequantized, w_dequantized)",
            "c_quantized = Q(c)",
            "c_dequantized = DQ(c_quantized)",
            "c_int16_quantized = Q(c_dequantized)",
            "c_int16_dequantized = DQ(c_int16_quantized)",
            "k_dequantized = DQ(k_quantized)",
            "y_float = Mul(c_int16_dequantized, k_dequantized)",
            "y_quantized = Q(y_float)",
            "y = DQ(y_quantized)",
        ],
    ),
    "a reader of each width": (
        "c = Conv (x, w) d = Conv (c, w) p = Mul (c, c) y = Mul (p, d)",
        [
            "x_quantized = Q(x)",
            "x_dequantized = DQ(x_quantized)",
            "w_dequantized = DQ(w_quantized)",
            "c = Conv(x_dequantized, w_dequantized)",
            "c_quantized = Q(c)",
            "c_dequantized = DQ(c_quantized)",
            "c_int16_quantized = Q(c_dequantized)",
            "c_int16_dequantized = DQ(c_int16_quantized)",
            "d = Conv(c_dequantized, w_dequantized)",
            "d_quantized = Q(d)",
            "d_dequantized = DQ(d_quantized)",
            "d_int16_quantized = Q(d_dequantized)",
            "d_int16_dequantized = DQ(d_int16_quantized)",
            "p = Mul(c_int16_dequantized, c_int16_dequantized)",
            "p_quantized = Q(p)",
            "p_dequantized = DQ(p_quantized)",
            "y_float = Mul(p_dequantized, d_int16_dequantized)",
            "y_quantized = Q(y_float)",
            "y = DQ(y_quantized)",
        ],
    ),
}


def wide(model: ir.Model) -> dict[str, str]:
    return {n.name or "": "asked for" for n in model.graph if n.op_type == "Mul"}


@pytest.mark.parametrize("name", GOLDEN)
def test_graphs(name: str) -> None:
    body, wanted = GOLDEN[name]
    model = net(body)
    made = inserted(model, target=TARGET, wide_nodes=wide(model))
    assert sorted(lines(made)) == sorted(wanted)
    types = {n.outputs[0].name: n.outputs[0].dtype for n in made.graph if VALUE_KEY in
             n.metadata_props}  # fmt: skip
    assert types["c_quantized"] == ir.DataType.UINT8
    assert types["c_int16_quantized"] == ir.DataType.INT16
    assert types["y_quantized"] == ir.DataType.INT16


def test_ends_of_two_types() -> None:
    """An 8-bit input is made wider behind its DequantizeLinear; the output is in int16."""
    model = net("y = Mul (x, k)")
    made = inserted(model, ["x", "y"], target=TARGET, wide_nodes=wide(model))
    assert sorted(lines(made)) == sorted([
        "x_dequantized = DQ(x)",
        "x_int16_quantized = Q(x_dequantized)",
        "x_int16_dequantized = DQ(x_int16_quantized)",
        "k_dequantized = DQ(k_quantized)",
        "y_float = Mul(x_int16_dequantized, k_dequantized)",
        "y = Q(y_float)",
    ])  # fmt: skip
    assert made.graph.inputs[0].dtype == ir.DataType.UINT8
    assert made.graph.outputs[0].dtype == ir.DataType.INT16


def test_the_pair_at_the_border_changes_no_number() -> None:
    model = net("c = Conv (x, w) y = Mul (c, k)")
    feeds = pictures(1, 4, 8, 8)
    made = planned(model, feeds, target=TARGET, wide_nodes=wide(model)).qdq()
    names = ["c_dequantized", "c_int16_dequantized"]
    narrow, wider = EXECUTOR.load(made, names, optimize=False).run(feeds[0])
    np.testing.assert_array_equal(narrow, wider)
    assert len(np.unique(narrow)) > 50


def test_16_bits_behind_the_border_come_closer_to_float() -> None:
    model = net("c = Conv (x, w) y = Mul (c, k)")
    feeds = pictures(1, 4, 8, 8)
    wanted = session(model).run(feeds[0])[0]
    errors = []
    for chosen in ({}, wide(model)):
        made = planned(model, feeds, target=TARGET, wide_nodes=chosen).qdq()
        errors.append(float(np.square(session(made).run(feeds[0])[0] - wanted).mean()))
    assert errors[1] < 0.7 * errors[0]
