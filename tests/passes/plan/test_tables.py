"""Embeddings are stored in 8 bits, one scale a column, and read rows are dequantized behind."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.compiler.options import Scheme
from qcompile.compiler.planning import empty_plan
from qcompile.compiler.quantizing import quantize
from qcompile.core.plan import QuantPlan
from qcompile.core.plan_file import load_plan, to_arrays, to_json
from qcompile.passes.plan.tables import FEWEST, KnownTables
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.executor import OrtExecutor

TARGET = load_target("ort-x86-vnni")
IDS = {"ids": np.asarray([[3, 0, 7], [1, 1, 126]], np.int64)}


def table(rows: int = 128, columns: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    uneven = np.exp(rng.normal(0, 1, columns))
    return (rng.uniform(-1, 1, (rows, columns)) * uneven).astype(np.float32)


def model(array: np.ndarray, body: str = "y = Gather <axis = 0> (t, ids)") -> ir.Model:
    text = f"""
      <ir_version: 10, opset_import: ["" : 21]>
      g (int64[2, 3] ids) => (float[2, 3, {array.shape[1]}] y) {{ {body} }}
    """
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(array, "t"))
    for node in proto.graph.node:
        node.name = node.output[0]
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def planned(of: ir.Model, scheme: str = "w8a8-dynamic", floats: tuple[str, ...] = ()) -> QuantPlan:
    return empty_plan(of, TARGET, Scheme(scheme=scheme), dict.fromkeys(floats, "asked for"))


def rows(of: ir.Model) -> np.ndarray:
    return OrtExecutor().load(of).run(IDS)[0]


@pytest.mark.parametrize("scheme", ["w8a8", "w8a8-dynamic"])
def test_rows_are_read_as_int8(scheme):
    array = table()
    of = model(array)
    plan = planned(of, scheme)
    assert plan.mode("y") == "table"
    entry = plan.values["t"]
    assert (entry.role, entry.dtype, entry.granularity, entry.axis) == (
        *("weight", "int8", "channel", 1),
    )
    quantized = quantize(of, plan)
    gather, behind = list(quantized.graph)
    assert (gather.op_type, behind.op_type) == ("Gather", "DequantizeLinear")
    assert gather.inputs[0].dtype == ir.DataType.INT8
    assert quantized.graph.outputs[0].name == "y"
    assert "t" not in quantized.graph.initializers
    # Nearest rounding: never further than half a step of the column.
    step = np.abs(array).max(axis=0) / 127
    assert np.all(np.abs(rows(quantized) - rows(of)) <= step * 0.5001)


def test_a_second_run_changes_nothing():
    of = model(table())
    plan = planned(of)
    once = quantize(of, plan)
    twice = quantize(once, plan)
    assert ir.to_proto(once).SerializeToString() == ir.to_proto(twice).SerializeToString()


def test_what_is_known_of_a_table_serves_the_next_plan():
    known, of, other = KnownTables(), model(table()), model(-2 * table())
    values = [m.graph.initializers["t"] for m in (of, other)]
    first, another = (
        known.entry(v, a) for v, a in zip(values, (table(), -2 * table()), strict=True)
    )
    assert first.params is not None and another.params is not None
    assert np.array_equal(another.params.scale, 2 * first.params.scale)
    assert known.entry(values[0], np.zeros_like(table())).params is first.params


def test_lookups_of_one_table_share_it():
    of = model(table(), "a = Gather <axis = 0> (t, ids) b = Gather (t, ids) y = Add(a, b)")
    quantized = quantize(of, planned(of))
    names = {n.inputs[0].name for n in quantized.graph if n.op_type == "Gather"}
    assert names == {"t_quantized"}
    assert np.allclose(rows(quantized), rows(of), atol=np.abs(table()).max() / 100)


LOOKUP = "y = Gather <axis = 0> (t, ids)"


@pytest.mark.parametrize(
    ("array", "body", "floats"),
    [
        (table(FEWEST // 64 - 1), LOOKUP, ()),
        (table(), LOOKUP, ("y",)),
        (table() * np.where(np.arange(128) == 5, 1e4, 1)[:, np.newaxis], LOOKUP, ()),
        (table(64, 128), "z = Gather <axis = 1> (t, ids) y = ReduceMean <keepdims = 0> (z)", ()),
    ],
    ids=["small", "asked to be float", "too little kept", "along columns"],
)
def test_what_stays_float(array, body, floats):
    plan = planned(model(array.astype(np.float32), body), floats=floats)
    assert all(node.mode == "float" for node in plan.nodes.values())


def test_a_saved_plan_knows_its_tables():
    of = model(table())
    plan = planned(of)
    again, dropped = load_plan(to_json(plan), to_arrays(plan), "plan")
    assert dropped == []
    assert again.mode("y") == "table"
    assert again.values["t"].params.same_as(plan.values["t"].params)
    a, b = quantize(of, plan), quantize(of, replace(again))
    assert ir.to_proto(a).SerializeToString() == ir.to_proto(b).SerializeToString()
