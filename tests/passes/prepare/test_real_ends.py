"""Integer ends become the real numbers they stand for, and nothing else is touched."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qcompile.passes.prepare.real_ends import RealEnds
from tests.passes.prepare.checking import ops, parse, unchanged

PASS = RealEnds()
S, Z = np.float32(0.25), np.uint8(100)
NUMBERS = {"s": S, "z": Z, "t": np.float32(0.5), "i": np.int8(-7)}


def model(body: str, ends: str = "uint8[N, 3] x) => (int8[N, 3] y") -> ir.Model:
    return parse(f"g ({ends}) {{ {body} }}", NUMBERS)


BODY = """a = DequantizeLinear(x, s, z)
          b = Relu(a)
          y = QuantizeLinear(b, t, i)"""


def session(m: ir.Model) -> ort.InferenceSession:
    return ort.InferenceSession(ir.to_proto(m).SerializeToString())


def test_what_the_integers_stand_for_goes_in_and_out():
    m = model(BODY)
    x = np.arange(90, 120, dtype=np.uint8).reshape(10, 3)
    before = session(m).run(None, {"x": x})[0]
    assert PASS(m).modified
    assert not PASS(m).modified
    assert [v.dtype for v in (*m.graph.inputs, *m.graph.outputs)] == [ir.DataType.FLOAT] * 2
    assert [v.name for v in (*m.graph.inputs, *m.graph.outputs)] == ["x", "y"]
    real = (x.astype(np.float32) - Z) * S
    after = session(m).run(None, {"x": real})[0]
    assert np.array_equal(after, (before.astype(np.float32) + 7) * np.float32(0.5))


def test_an_input_that_several_read_gets_one_quantizer():
    m = model(
        """a = DequantizeLinear(x, s, z)
           b = DequantizeLinear(x, s, z)
           c = Add(a, b)
           y = QuantizeLinear(c, t, i)"""
    )
    assert PASS(m).modified
    assert ops(m).count("QuantizeLinear") == 2


@pytest.mark.parametrize(
    ("body", "ends"),
    [
        ("y = Add(x, x)", "uint8[N, 3] x) => (uint8[N, 3] y"),
        (
            "a = DequantizeLinear(x, s, z) c = DequantizeLinear(x, t, z) y = Add(a, c)",
            "uint8[N, 3] x) => (float[N, 3] y",
        ),
        (
            "u = Add(x, x) a = DequantizeLinear(x, s, z) c = DequantizeLinear(u, s, z) "
            "y = Add(a, c)",
            "uint8[N, 3] x) => (float[N, 3] y",
        ),
        ("y = Relu(x)", "float[N, 3] x) => (float[N, 3] y"),
    ],
)
def test_left_alone(body, ends):
    unchanged(PASS, parse(f"g ({ends}) {{ {body} }}", NUMBERS)) if "float[N, 3] x" in ends else (
        _same(parse(f"g ({ends}) {{ {body} }}", NUMBERS))
    )


def _same(m: ir.Model) -> None:
    before = ir.to_proto(m).SerializeToString(deterministic=True)
    assert not PASS(m).modified
    assert ir.to_proto(m).SerializeToString(deterministic=True) == before
