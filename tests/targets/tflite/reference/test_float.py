"""Operators on real numbers against LiteRT's reference kernels: the float islands of a model."""

import zlib

import numpy as np
import pytest

from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.reference.evaluate import run
from tests.targets.tflite.reference.draw import Draw
from tests.targets.tflite.reference.draw_operands import COMPARISONS
from tests.targets.tflite.reference.one_op import OneOp, Spec, litert
from tests.targets.tflite.reference.operators import EXACT

NOT_FLOAT = {"QUANTIZE", "DEQUANTIZE", "BATCH_MATMUL, constant", "SOFTMAX", "LOG_SOFTMAX"}
"""Drawn with fixed output parameters, or between types."""
FIXED = {"LOGISTIC", "TANH", "L2_NORMALIZATION"}
BY_GENERATOR = [
    name for name in EXACT if name not in NOT_FLOAT | FIXED and not name.startswith("QUANTIZE")
]
POSITIVE = ("LOG", "SQRT", "RSQRT")
RELATIVE = 2e-6
"""Of the largest output: what float32 sums in another order may differ by."""


def close(one: OneOp) -> None:
    data = one.data()
    ours, theirs = run(data, one.feeds), litert(data, one.feeds, "reference")
    for name, expected in theirs.items():
        assert ours[name].dtype == expected.dtype
        allowed = RELATIVE * max(1.0, float(np.abs(expected.astype(np.float64)).max(initial=0)))
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=allowed)


@pytest.mark.parametrize("name", BY_GENERATOR)
def test_as_drawn(name: str) -> None:
    draw = Draw(np.random.default_rng(zlib.crc32(name.encode())), dtype="float32")
    for _ in range(10):
        one = EXACT[name](draw)
        if name in POSITIVE:
            feeds = {key: np.abs(x) + np.float32(0.1) for key, x in one.feeds.items()}
            one = OneOp(one.op, one.inputs, one.outputs, feeds, one.options)
        close(one)


UNARY = {
    "LOGISTIC": None,
    "TANH": None,
    "SOFTMAX": Options("SoftmaxOptions", {"beta": 0.7}),
    "LOG_SOFTMAX": Options("LogSoftmaxOptions", {}),
    "L2_NORMALIZATION": Options("L2NormOptions", {"fusedActivationFunction": 0}),
    "SQUARE": None,
    "FLOOR": None,
    "SIN": None,
    "COS": None,
    "SIGN": Options("SignOptions", {}),
}


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    x = (3 * np.random.default_rng(1).standard_normal((2, 3, 5))).astype(np.float32)
    spec = Spec(x.shape, "float32")
    close(OneOp(name, [spec], [spec], {"in0": x}, UNARY[name]))


BINARY = {
    "DIV": Options("DivOptions", {"fusedActivationFunction": 3}),
    "POW": Options("PowOptions", {}),
    "FLOOR_DIV": Options("FloorDivOptions", {}),
    "FLOOR_MOD": Options("FloorModOptions", {}),
    **{name: Options(table, {}) for name, table in COMPARISONS.items()},
}


@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str) -> None:
    rng = np.random.default_rng(1)
    x = np.rint(4 * np.abs(rng.standard_normal((2, 3, 5))) + 1).astype(np.float32) / 4
    y = np.rint(4 * np.abs(rng.standard_normal((2, 3, 5))) + 1).astype(np.float32) / 4
    spec = Spec(x.shape, "float32")
    out = Spec(x.shape, "bool") if name in COMPARISONS else spec
    close(OneOp(name, [spec, spec], [out], {"in0": x, "in1": y}, BINARY[name]))


@pytest.mark.parametrize("op", ["SUM", "REDUCE_MAX", "REDUCE_MIN"])
@pytest.mark.parametrize("keep", [False, True])
def test_reductions(op: str, keep: bool) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 5)).astype(np.float32)
    axes = Spec((2,), "int32", data=np.asarray([0, 2], np.int32))
    options = Options("ReducerOptions", {"keepDims": keep})
    out = Spec((1, 3, 1) if keep else (3,), "float32")
    close(OneOp(op, [Spec(x.shape, "float32"), axes], [out], {"in0": x}, options))


@pytest.mark.parametrize(("exclusive", "reverse"), [(False, False), (True, False), (False, True)])
def test_cumulative_sum(exclusive: bool, reverse: bool) -> None:
    x = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)
    axis = Spec((), "int32", data=np.asarray(1, np.int32))
    options = Options("CumsumOptions", {"exclusive": exclusive, "reverse": reverse})
    spec = Spec(x.shape, "float32")
    close(OneOp("CUMSUM", [spec, axis], [spec], {"in0": x}, options))


@pytest.mark.parametrize("op", ["LOGICAL_AND", "LOGICAL_OR"])
def test_logic(op: str) -> None:
    x, y = np.asarray([True, True, False, False]), np.asarray([True, False, True, False])
    spec = Spec((4,), "bool")
    table = {"LOGICAL_AND": "LogicalAndOptions", "LOGICAL_OR": "LogicalOrOptions"}[op]
    close(OneOp(op, [spec, spec], [spec], {"in0": x, "in1": y}, Options(table, {})))
