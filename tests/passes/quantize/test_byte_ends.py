"""Ends of the type of byte that was asked for: every number is kept, raw inputs are the bytes."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qcompile.core.pixels import PIXELS_KEY, Pixels, pixels_to_json
from qcompile.passes.quantize.byte_ends import ByteEnds
from tests.passes.prepare.checking import ops, parse, unchanged

POINTS = {"s": np.float32(0.5), "z": np.int8(-3), "t": np.float32(0.25), "o": np.int8(7)}
SIGNED = """g (int8[N, 4] x) => (int8[N, 4] y) {
    r = DequantizeLinear(x, s, z)  a = Tanh(r)  y = QuantizeLinear(a, t, o)
}"""


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


def test_the_other_byte_is_128_apart_at_both_ends() -> None:
    model = parse(SIGNED, POINTS)
    x = np.arange(-128, 128, dtype=np.int8).reshape(-1, 4)
    before = run(model, x)
    assert ByteEnds("uint8")(model).modified
    assert [v.dtype for v in (*model.graph.inputs, *model.graph.outputs)] == [ir.DataType.UINT8] * 2
    assert [v.name for v in (*model.graph.inputs, *model.graph.outputs)] == ["x", "y"]
    after = run(model, (x.astype(int) + 128).astype(np.uint8))
    assert (after.astype(int) - 128 == before).all()
    unchanged(ByteEnds("uint8"), model)


def test_its_own_byte_and_floats_are_left_alone() -> None:
    unchanged(ByteEnds("int8"), parse(SIGNED, POINTS))
    unchanged(ByteEnds("uint8"), parse("g (float[N] x) => (float[N] y) { y = Tanh(x) }"))
    unchanged(ByteEnds("uint8"), parse("g (int8[N] x) => (int8[N] y) { y = Identity(x) }"))


def noted(model: ir.Model, value: str, scale: float = 0.5, zero: int = 100) -> ir.Model:
    pixels = Pixels(value, scale, zero, (99.5,), (2.0,), 1)
    model.metadata_props[PIXELS_KEY] = pixels_to_json({"x": pixels})
    return model


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_a_value_that_stands_for_bytes_becomes_the_input(dtype: str) -> None:
    """Its quantizer goes where it has the same grid, and stays as a requantizer where not."""
    body = """g (float[N, 4] x) => (float[N, 4] y) {
        v = Add(x, d)
        q = QuantizeLinear(v, s, z)  r = DequantizeLinear(q, s, z)
        f = Tanh(v)  y = Add(r, f)
    }"""
    made = {"d": np.float32(-0.25), "s": np.float32(0.5), "z": np.uint8(100)}
    model = noted(parse(body, made), "v")
    u = np.arange(256, dtype=np.uint8).reshape(-1, 4)
    x = ((u.astype(np.float64) - 99.5) / 2).astype(np.float32)
    before = run(model, x)
    assert ByteEnds(dtype)(model).modified
    fed = u if dtype == "uint8" else (u.astype(int) - 128).astype(np.int8)
    assert np.abs(run(model, fed) - before).max() <= 1e-6
    assert ops(model).count("QuantizeLinear") == (0 if dtype == "uint8" else 1)
    assert "d" not in model.graph.initializers
    unchanged(ByteEnds(dtype), model)


def test_float_readers_alone_get_the_numbers_of_the_bytes() -> None:
    model = noted(parse("g (float[N, 4] x) => (float[N, 4] y) { y = Tanh(x) }"), "x")
    ByteEnds("uint8")(model)
    assert ops(model) == ["DequantizeLinear", "Tanh"]
    u = np.arange(256, dtype=np.uint8).reshape(-1, 4)
    assert np.abs(run(model, u) - np.tanh((u.astype(float) - 100) / 2)).max() <= 1e-6
