"""Exponential, reciprocal and logarithm in fixed point, as the integer softmax computes them.

A number with ``k`` integer bits is an integer of 32 bits that counts ``2**(k-31)``; ``Fk`` below.
Source: gemmlowp, ``fixedpoint/fixedpoint.h``; LiteRT, ``kernels/internal/common.h``. The constants
are rounded by those sources and stand as they do there.
"""

import numpy as np

from qcompile.targets.tflite.reference.multiplier import divide_by_power, high_multiply

_LOW, _HIGH = -(1 << 31), (1 << 31) - 1
_EXP_MINUS_EIGHTH = 1895147668
_THIRD = 715827883
_EXP_OF_MINUS_POWERS = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)
"""Exponent p -> F0 of exp(-2**p)."""
_48_OVER_17, _MINUS_32_OVER_17 = 1515870810, -1010580540
_LOG_2 = 1488522236
_ROOT_4_OF_HALF, _ROOT_OF_HALF = 1805811301, 1518500250
_ALPHA_N, _ALPHA_D, _ALPHA_I, _ALPHA_F = 117049297, 127690142, 1057819769, 638450708
_QUARTER = 536870912


def raise_by(x: np.ndarray, bits: np.ndarray | int) -> np.ndarray:
    """``x * 2**bits``, saturated to 32 bits."""
    return np.asarray(np.clip(np.asarray(x, np.int64) << bits, _LOW, _HIGH))


def leading_zeros(x: np.ndarray) -> np.ndarray:
    """Zero bits before the first one of a positive integer of 32 bits; 32 for 0."""
    return 32 - np.frexp(np.asarray(x, np.float64))[1].astype(np.int64)


def exp_of_negative(a: np.ndarray, integer_bits: int) -> np.ndarray:
    """F0 of ``exp(a)`` for ``a <= 0``.

    ``a`` is split into a part in [-1/4, 0), whose exponential is a polynomial, and quarters, each
    bit of which multiplies by a constant.
    """
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    part = (a & (quarter - 1)) - quarter
    result = _exp_of_quarter(raise_by(part, integer_bits))
    remainder = part - a
    for power, factor in _EXP_OF_MINUS_POWERS:
        if integer_bits > power:
            there = (remainder >> (fraction_bits + power)) & 1
            result = np.where(there, high_multiply(result, factor), result)
    return np.where(a == 0, _HIGH, result)


def reciprocal_of_one_plus(a: np.ndarray) -> np.ndarray:
    """F0 of ``1 / (1 + a)`` for F0 ``a`` in (0, 1): three steps of Newton's division."""
    half = (a + _HIGH + 1) // 2
    x = _48_OVER_17 + high_multiply(half, _MINUS_32_OVER_17)
    for _ in range(3):
        rest = (1 << 29) - high_multiply(half, x)
        x = x + raise_by(high_multiply(x, rest), 2)
    return raise_by(x, 1)


def reciprocal(x: np.ndarray, integer_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """F0 of ``1 / x`` where ``x`` is shifted into [1, 2), and by how many bits it was above 1."""
    zeros = leading_zeros(x)
    return reciprocal_of_one_plus((x << zeros) - (1 << 31)), integer_bits - zeros


def log_of_at_least_one(x: np.ndarray, integer_bits: int, output_bits: int) -> np.ndarray:
    """F(output_bits) of ``log(x)`` for ``x >= 1``."""
    inner = output_bits + 1
    quarter = divide_by_power(np.asarray(_QUARTER), inner)
    zeros = leading_zeros(x)
    lifted = raise_by(x, zeros - 1)
    first = raise_by(high_multiply(lifted, _ROOT_OF_HALF), 1)
    first_power = np.clip(raise_by(integer_bits - zeros, 31 - inner) + quarter, _LOW, _HIGH)
    room = leading_zeros(high_multiply(x, _ROOT_OF_HALF)) - 1
    second = raise_by(x, room)
    second_power = np.clip(raise_by(integer_bits - room, 31 - inner) - quarter, _LOW, _HIGH)
    r = np.minimum(first, second)
    power = np.maximum(first_power, second_power)
    total = r + _ROOT_4_OF_HALF
    p = (total + np.where(total >= 0, 1, -1)) // 2
    q = 2 * (r - _ROOT_4_OF_HALF)
    square = high_multiply(q, q)
    above = high_multiply(q, r) + high_multiply(high_multiply(q, square), _ALPHA_N)
    below = high_multiply(p, _ALPHA_I + q + high_multiply(square, _ALPHA_D))
    below = below + high_multiply(q, _ALPHA_F)
    ratio = high_multiply(divide_by_power(above, inner), reciprocal_of_one_plus(below))
    return raise_by(high_multiply(power, _LOG_2) + ratio, inner - output_bits)


def _exp_of_quarter(a: np.ndarray) -> np.ndarray:
    """F0 of ``exp(a)`` for F0 ``a`` in [-1/4, 0): four terms around -1/8."""
    x = a + (1 << 28)
    x2 = high_multiply(x, x)
    x3 = high_multiply(x2, x)
    x4 = high_multiply(x2, x2)
    higher = high_multiply(divide_by_power(x4, 2) + x3, _THIRD) + x2
    return _EXP_MINUS_EIGHTH + high_multiply(x + divide_by_power(higher, 1), _EXP_MINUS_EIGHTH)
