"""How TFLite scales an integer by a real number: the quantized multiplier and its roundings.

A real multiplier M becomes ``q * 2**(e-31)``, q of 31 bits. Rules that scale by it:

- ``double_rounding``: D of the reference kernels for 8 bits, two roundings;
- ``single_rounding``: the same with one (builds with TFLITE_SINGLE_ROUNDING, as for CMSIS-NN);
- ``wide``: I of the 16x8 kernels, whose sums have 64 bits and whose multiplier has 16;
- ``float_rule``: XNNPACK's, one float32 product rounded half to even.

Source: LiteRT, ``kernels/internal/quantization_util.cc`` and ``common.cc``; gemmlowp,
``fixedpoint.h``; XNNPACK, ``qs8-requantization``.
"""

from dataclasses import dataclass

import numpy as np

_BITS = 31
_WIDE_BITS = 15
_WIDE_LIMIT = 0x7FFF0000
"""From here on a multiplier of 32 bits does not round into 16 without overflow."""


@dataclass(frozen=True, eq=False)
class Multiplier:
    """``q * 2**(e-31)``; scalars, or vectors of one element a channel."""

    q: np.ndarray
    """int64, 0 or in [2**30, 2**31)."""
    e: np.ndarray
    """int64, at least -31."""


def quantize_multiplier(real: np.ndarray | np.floating | float) -> Multiplier:
    """The multiplier nearest to ``real`` (not negative, float64), halves away from zero.

    What is smaller than 2**-32 becomes 0.
    """
    fraction, exponent = np.frexp(np.asarray(real, np.float64))
    q = half_away(fraction * 2.0**_BITS).astype(np.int64)
    e = exponent.astype(np.int64)
    carried = np.abs(q) == 1 << _BITS
    q, e = np.where(carried, q >> 1, q), np.where(carried, e + 1, e)
    tiny = e < -_BITS
    return Multiplier(np.where(tiny, 0, q), np.where(tiny, 0, e))


def high_multiply(a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
    """``a * b / 2**31``, halves up: SaturatingRoundingDoublingHighMul, which is ARM's SQRDMULH.

    gemmlowp writes it with a nudge by sign and a division that truncates; that is the same number.
    The one product that saturates, of the lowest int32 by itself, does.
    """
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    return np.asarray(np.minimum((product + (1 << 30)) >> _BITS, (1 << _BITS) - 1))


def divide_by_power(x: np.ndarray, exponent: np.ndarray | int) -> np.ndarray:
    """``x / 2**exponent``, halves away from zero: RoundingDivideByPOT."""
    mask = (np.int64(1) << np.asarray(exponent, np.int64)) - 1
    threshold = (mask >> 1) + (x < 0)
    return np.asarray((x >> exponent) + ((x & mask) > threshold))


def double_rounding(x: np.ndarray, by: Multiplier) -> np.ndarray:
    """D: the high half of ``x * 2**max(e,0) * q``, then the division by ``2**max(-e,0)``.

    Args:
        x: integers of 32 bits, the last axis being the channels of ``by`` if it has several.
        by: the multiplier. A negative one (a LEAKY_RELU may have it) gives minus what its
            magnitude gives; that is measured, the source would let halves fall the other way.

    Returns:
        int64.
    """
    # The shift to the left is one of 32 bits and wraps as such.
    raised = (np.asarray(x, np.int64) << np.maximum(by.e, 0)).astype(np.int32).astype(np.int64)
    scaled = divide_by_power(high_multiply(raised, np.abs(by.q)), np.maximum(-by.e, 0))
    return np.asarray(np.sign(by.q) * scaled)


def half_up_rounding(x: np.ndarray, by: Multiplier) -> np.ndarray:
    """As ``double_rounding`` with the second rounding halves up: ARM's SQRDMULH, then SRSHL."""
    high = high_multiply(np.asarray(x, np.int64) << np.maximum(by.e, 0), by.q)
    shift = np.maximum(-by.e, 0)
    return np.asarray((high + ((np.int64(1) << shift) >> 1)) >> shift)


def single_rounding(x: np.ndarray, by: Multiplier) -> np.ndarray:
    """``x * q`` divided by ``2**(31-e)`` with one rounding, halves up."""
    shift = _BITS - by.e
    return np.asarray((np.asarray(x, np.int64) * by.q + (np.int64(1) << (shift - 1))) >> shift)


def wide(x: np.ndarray, by: Multiplier) -> np.ndarray:
    """I: ``x`` of up to 48 bits times a multiplier of 16 bits, one rounding, halves up."""
    reduced = np.where(by.q < _WIDE_LIMIT, (by.q + (1 << 15)) >> 16, 0x7FFF)
    shift = _WIDE_BITS - by.e
    return np.asarray((np.asarray(x, np.int64) * reduced + (np.int64(1) << (shift - 1))) >> shift)


def float_rule(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """XNNPACK's rule: ``x`` in float32 times a float32 scale, halves to even.

    Args:
        x: sums, exact integers.
        scale: float32, a scalar or one a channel (last axis).

    Returns:
        int64.
    """
    return np.rint(np.asarray(x).astype(np.float32) * scale.astype(np.float32)).astype(np.int64)


def half_away(x: np.ndarray) -> np.ndarray:
    """C's ``round``: to the nearest integer, halves away from zero, in the type of ``x``.

    The sum ``|x| + 0.5`` is not used: it rounds up what lies just below a half.
    """
    whole = np.trunc(x)
    return np.asarray(whole + np.copysign((np.abs(x - whole) >= 0.5).astype(x.dtype), x))
