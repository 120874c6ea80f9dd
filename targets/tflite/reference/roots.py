"""SQRT, RSQRT and L2_NORMALIZATION, which in 8 bits are not tables of rounded results.

Source: LiteRT, ``kernels/elementwise.cc`` and GetInvSqrtQuantizedMultiplierExp in
``internal/common.h``; that SQRT rounds down is measured.
"""

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.core.numerics.affine import limits
from qcompile.targets.tflite.reference.call import Call, Kernel, finish
from qcompile.targets.tflite.reference.fixed_point import leading_zeros, raise_by
from qcompile.targets.tflite.reference.multiplier import (
    Multiplier,
    divide_by_power,
    double_rounding,
    high_multiply,
    quantize_multiplier,
)

_HIGHEST = (1 << 31) - 1
_THREE_HALVES = (1 << 28) + (1 << 27)
_ROOT_OF_HALF = 1518500250
_STEPS = 5
_GUARD_BITS = 20
_NORMALIZED_BITS = 7
_LARGEST_BITS = 29


def sqrt(call: Call) -> Kernel:
    """Square root; the integer one rounds down."""
    if call.is_float:
        return [_real_root(call.array(0))]
    root = np.sqrt(_not_negative(call).astype(np.float64) * np.float64(call.x.scale))
    return [finish(call, np.floor(root / np.float64(call.y.scale)).astype(np.int64), 0)]


def rsqrt(call: Call) -> Kernel:
    """``1 / sqrt(x)``; the type's highest integer where ``x`` is 0."""
    if call.is_float:
        with np.errstate(divide="ignore"):
            return [np.float32(1) / _real_root(call.array(0))]
    x = _not_negative(call)
    inverse = _inverse_root(np.maximum(x, 1))
    real = 1.0 / np.float64(np.sqrt(call.x.scale) * call.y.scale)
    by = quantize_multiplier(real)
    raised = double_rounding(np.ones_like(x), Multiplier(inverse.q, inverse.e + _GUARD_BITS))
    scaled = double_rounding(raised, Multiplier(by.q, by.e - _GUARD_BITS))
    highest = limits(call.y.dtype)[1]
    return [np.where(x == 0, highest, finish(call, scaled, 0)).astype(call.y.dtype)]


def l2_normalization(call: Call) -> Kernel:
    """A row divided by the root of its sum of squares."""
    if call.is_float:
        x = call.array(0)
        squares = np.square(x).sum(axis=-1, keepdims=True)
        return [x / np.maximum(np.sqrt(squares), np.float32(1e-6))]
    x = call.centered(0)
    inverse = _inverse_root(np.maximum(np.square(x).sum(axis=-1, keepdims=True), 1))
    by = Multiplier(inverse.q, inverse.e + _NORMALIZED_BITS)
    return [finish(call, double_rounding(x, by), 0)]


def _real_root(x: np.ndarray) -> np.ndarray:
    """NaN, and no complaint, for a negative number."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(x))


def _not_negative(call: Call) -> np.ndarray:
    x = call.centered(0)
    if np.any(x < 0):
        raise QCompileError(Code.RUNTIME_FAILED, f"{call.op} of a negative number stops the run")
    return x


def _inverse_root(x: np.ndarray) -> Multiplier:
    """Multiplier of ``1 / sqrt(x)`` for integers from 1 on: five steps of Newton's from 1."""
    over = np.maximum((31 - _LARGEST_BITS + 1 - leading_zeros(x)) // 2, 0)
    x = x >> (2 * over)
    pairs = (leading_zeros(x) - 1) // 2 - 1
    shift = 11 + over - pairs
    start = (x << (2 * pairs)) >> 1
    half = divide_by_power(start, 1)
    root = np.full_like(x, 1 << 28)
    for _ in range(_STEPS):
        cube = raise_by(high_multiply(high_multiply(root, root), root), 6)
        root = raise_by(high_multiply(root, _THREE_HALVES) - high_multiply(half, cube), 3)
    q = high_multiply(root, _ROOT_OF_HALF) << np.maximum(-shift, 0)
    one = x == 1
    return Multiplier(np.where(one, _HIGHEST, q), np.where(one, 0, -np.maximum(shift, 0)))
