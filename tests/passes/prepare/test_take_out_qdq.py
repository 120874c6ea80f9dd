"""Quantizers are taken out and what they said is known by the names of the values."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.passes.prepare.take_out_qdq import TakeOutQDQ
from tests.passes.prepare.checking import ops, parse, unchanged

NUMBERS = {
    "s": np.float32(0.25), "z": np.uint8(128), "w": np.ones((3, 3), np.float32),
    "n": np.uint8(0), "j": np.int8(-128), "t": np.float32(0.5), "i": np.int8(0),
    "v": np.array([0.5, 0.25, 1], np.float32), "vz": np.zeros(3, np.int8),
}  # fmt: skip


def taken(body: str) -> tuple[ir.Model, TakeOutQDQ]:
    model = parse(f"g (float[N, 3] x) => (float[N, 3] y) {{ {body} }}", NUMBERS)
    the_pass = TakeOutQDQ()
    assert the_pass(model).modified
    assert not TakeOutQDQ()(model).modified
    return model, the_pass


def pair(out: str, value: str, scale: str = "s", zero: str = "z") -> str:
    return (
        f"{out}q = QuantizeLinear({value}, {scale}, {zero}) "
        f"{out} = DequantizeLinear({out}q, {scale}, {zero}) "
    )


def test_readers_read_what_was_quantized_and_the_parameters_are_known():
    model, found = taken(pair("a", "x") + "b = Relu(a) " + pair("y", "b", "t", "i"))
    assert ops(model) == ["Relu"]
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert {name: (s.dtype, float(s.params.scale)) for name, s in found.stated.items()} == {
        "x": ("uint8", 0.25),
        "y": ("int8", 0.5),
    }


def test_equal_pairs_on_one_value_are_one_also_in_u8_and_s8():
    body = pair("a", "x") + pair("b", "x", "s", "i") + pair("c", "b") + "y = Add(a, c)"
    model, found = taken(body)
    assert ops(model) == ["Add"]
    assert list(found.stated) == ["x"]


def test_a_requantize_stays_where_it_was():
    model, found = taken(pair("a", "x") + pair("b", "a", "t") + "y = Relu(b)")
    assert ops(model) == ["Identity", "Relu"]
    assert {name: float(s.params.scale) for name, s in found.stated.items()} == {
        "x": 0.25,
        "b": 0.5,
    }


def test_from_an_input_straight_to_an_output_both_names_stay():
    model, found = taken(pair("y", "x"))
    assert ops(model) == ["Identity"]
    assert set(found.stated) == {"x", "y"}


@pytest.mark.parametrize(
    "body",
    [
        "y = Relu(x)",
        "q = QuantizeLinear<axis = 1>(x, v, vz) y = DequantizeLinear<axis = 1>(q, v, vz)",
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, t, z)",
        "u = Abs(s) q = QuantizeLinear(x, u, z) y = DequantizeLinear(q, u, z)",
    ],
)
def test_left_alone(body):
    model = parse(f"g (float[N, 3] x) => (float[N, 3] y) {{ {body} }}", NUMBERS)
    unchanged(TakeOutQDQ(), model)


@pytest.mark.parametrize("zero", ["n", "j"])
def test_a_quantizer_that_did_the_work_of_a_relu_leaves_a_clamp(zero: str) -> None:
    model, found = taken("a = MatMul(x, w) " + pair("b", "a", "s", zero) + "y = Tanh(b)")
    assert ops(model) == ["MatMul", "Clip", "Tanh"]
    clip = list(model.graph)[1]
    assert [float(v.const_value.numpy()) for v in clip.inputs[1:]] == [0.0, 255 * 0.25]
    assert clip.outputs[0].name == "a" and list(found.stated) == ["a"]


@pytest.mark.parametrize(
    "body",
    [
        "a = MatMul(x, w) " + pair("b", "a") + "y = Tanh(b)",
        "a = MatMul(x, w) " + pair("b", "a", "s", "n") + "y = Relu(b)",
        "a = Sigmoid(x) " + pair("b", "a", "s", "n") + "y = Tanh(b)",
        pair("b", "x", "s", "n") + "y = Tanh(b)",
    ],
)
def test_other_quantizers_leave_none(body: str) -> None:
    assert "Clip" not in ops(taken(body)[0])
