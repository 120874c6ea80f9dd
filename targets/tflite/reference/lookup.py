"""Functions of one variable: 256 results in a table for 8 bits, interpolation for 16.

A table's entry is ``round(f(s_x (q - z_x)) / s_y) + z_y``, each step in float32. ``f`` is evaluated
in float64 and rounded once, which is what C's float functions give but for rare last bits.
Source: LiteRT, ``kernels/internal/common.h`` (LUTPopulate), ``integer_ops/{logistic,tanh}.h``.
"""

import math
from collections.abc import Callable

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.core.numerics.affine import limits
from qcompile.targets.tflite.reference.call import Call, Kernel
from qcompile.targets.tflite.reference.multiplier import half_away

Function = Callable[[np.ndarray], np.ndarray]
"""Of float64 arrays."""

_XNNPACK_TABLES = ("LOGISTIC", "TANH", "ELU")
"""Whose tables XNNPACK makes, adding the zero point before it rounds; others it leaves alone."""
_STEPS = 512
_TABLE_16 = 256
_HIGHER_16 = (
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40),
    *(41, 43, 44, 45, 46, 49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255),
)
"""Entries of the runtime's sigmoid table that lie one above the nearest integer: it was made so
that lines between entries err least. Read from a TANH whose steps meet the entries."""
_FRACTION_16 = 9
_INPUT_BITS_16 = 12
"""Fraction bits of the 16-bit input that the sigmoid's table takes, before the factor 3/4."""


def logistic(call: Call) -> Kernel:
    """``1 / (1 + exp(-x))``."""
    return [_logistic_16(call)] if call.x.dtype == "int16" else _function(call, _logistic)


def tanh(call: Call) -> Kernel:
    """Hyperbolic tangent."""
    return [_tanh_16(call)] if call.x.dtype == "int16" else _function(call, np.tanh)


def exp(call: Call) -> Kernel:
    """Exponential."""
    return _function(call, np.exp)


def log(call: Call) -> Kernel:
    """Logarithm; the output's least number where the input is not positive."""
    if call.is_float:
        return _function(call, np.log)
    least = np.float64((limits(call.y.dtype)[0] - call.y.zero_point) * call.y.scale)

    def limited(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), least)

    return _function(call, limited)


def elu(call: Call) -> Kernel:
    """``exp(x) - 1`` below 0."""
    return _function(call, lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0.0)), x))


def gelu(call: Call) -> Kernel:
    """``x * P(Z <= x)``, or its approximation by tanh."""
    return _function(call, _gelu_by_tanh if call.option("approximate", False) else _gelu)


def sine(call: Call) -> Kernel:
    """Sine of real numbers."""
    return _function(call, np.sin)


def cosine(call: Call) -> Kernel:
    """Cosine of real numbers."""
    return _function(call, np.cos)


def square(call: Call) -> Kernel:
    """Square of real numbers."""
    return _function(call, np.square)


def floor(call: Call) -> Kernel:
    """Floor of real numbers."""
    return _function(call, np.floor)


def ceil(call: Call) -> Kernel:
    """Ceiling of real numbers."""
    return _function(call, np.ceil)


def round_(call: Call) -> Kernel:
    """Nearest integers of real numbers, halves to even."""
    return _function(call, np.rint)


def sign(call: Call) -> Kernel:
    """-1, 0 or 1 of real numbers."""
    return _function(call, np.sign)


def interpolation_table(function: Function, low: float, high: float) -> np.ndarray:
    """513 values of a function on [low, high] in steps of 2**-15, int64.

    Each is moved by half the error that the chord makes at the middle of its step.
    """
    step = (high - low) / _STEPS
    at = low + step * np.arange(_STEPS)
    per_unit = 65536.0 / (2.0 * 65535.0 / 65535.0)
    here = half_away(function(at) * per_unit)
    chord = half_away((function(at + step) * per_unit + here) / 2)
    error = chord - half_away(function(at + step / 2) * per_unit)
    last = half_away(function(np.asarray([high])) * per_unit)
    values = np.concatenate([here - half_away(error / 2), last])
    return np.asarray(np.clip(values, -32768, 32767).astype(np.int64))


def interpolate(table: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values between the table's, for ``x`` of 16 bits over its whole range."""
    index = 256 + (x >> 7)
    slope = table[index + 1] - table[index]
    return np.asarray(table[index] + ((slope * (x & 0x7F) + 64) >> 7))


def _function(call: Call, function: Function) -> Kernel:
    if call.is_float:
        return [_single(function, call.array(0))]
    if call.x.dtype not in ("int8", "uint8"):
        raise QCompileError(
            Code.SCHEME_UNSUPPORTED, f"{call.op} of {call.x.dtype} is not computed here"
        )
    low, high = limits(call.x.dtype)
    real = call.x.scale * np.arange(
        low - call.x.zero_point, high + 1 - call.x.zero_point, dtype=np.float32
    )
    steps = _single(function, real) * (np.float32(1) / call.y.scale)
    zero = np.float32(call.y.zero_point)
    if call.xnnpack and call.op in _XNNPACK_TABLES:
        whole = np.rint(steps + zero)
    else:
        whole = half_away(steps) + zero
    q = np.clip(whole, *limits(call.y.dtype))
    return [q.astype(call.y.dtype)[call.array(0).astype(np.int64) - low]]


def _single(function: Function, x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return np.asarray(function(x.astype(np.float64))).astype(np.float32)


def _logistic(x: np.ndarray) -> np.ndarray:
    # The kernel rounds the exponential and the sum to float32 on the way.
    raised = np.exp(-x).astype(np.float32)
    return np.asarray(np.float32(1) / (np.float32(1) + raised))


def _gelu(x: np.ndarray) -> np.ndarray:
    """By erfc, every step in float32, as the kernel; so that ties fall as there."""
    single = x.astype(np.float32)
    inner = (single * np.float32(-math.sqrt(0.5))).reshape(-1).tolist()
    tail = np.fromiter(map(math.erfc, inner), np.float32, len(inner)).reshape(x.shape)
    return np.asarray(np.float32(0.5) * single * tail)


def _gelu_by_tanh(x: np.ndarray) -> np.ndarray:
    single = x.astype(np.float32)
    cubic = single + np.float32(0.044715) * single * single * single
    inner = np.float32(math.sqrt(2.0 / math.pi)) * cubic
    tail = np.float32(1) + np.tanh(inner.astype(np.float64)).astype(np.float32)
    return np.asarray(np.float32(0.5) * single * tail)


def _sigmoid_table() -> np.ndarray:
    """65536 times the sigmoid at multiples of 1/24, some entries one higher (measured)."""
    places = np.arange(_TABLE_16)
    exact = 65536.0 / (1.0 + np.exp(-places / 24.0))
    return np.rint(exact).astype(np.int64) + np.isin(places, _HIGHER_16)


def _scaled_16(call: Call, powers: tuple[int, ...]) -> tuple[int, int]:
    """Factor and right shift from the input's steps to 3/4 of 2**-12; (0, shift) for a power.

    A power-of-two scale that the kernel knows (``powers``: its shifts) is shifted, not multiplied.
    """
    exponent = math.log2(float(call.x.scale))
    shift = _INPUT_BITS_16 + round(exponent)
    if abs(exponent - round(exponent)) < 1e-3 and shift in powers:
        return 0, shift
    factor, bits = float(call.x.scale) * 4096.0 * 3.0, 0
    while factor <= 32767.0 / 2.0 and bits <= 30:
        factor, bits = factor * 2.0, bits + 1
    return int(factor), bits


def _logistic_16(call: Call) -> np.ndarray:
    factor, shift = _scaled_16(call, (0,))
    if factor == 0:
        factor, shift = 3 << shift, 0
    x = (call.array(0).astype(np.int64) * factor + ((1 << shift) >> 1)) >> shift
    result = _interpolated_sigmoid(np.abs(x))
    half = 1 << _FRACTION_16
    signed = np.where(x >= 0, result + half, (1 << 25) - result + half - 1)
    return (signed >> 10).astype(np.int16)


def _tanh_16(call: Call) -> np.ndarray:
    factor, shift = _scaled_16(call, (0, 1))
    if factor == 0:
        factor, shift = 3 << shift, 0
    x = (call.array(0).astype(np.int64) * factor + ((1 << shift) >> 1)) >> shift
    magnitude = np.abs(x)
    table = _sigmoid_table()
    index = np.minimum(magnitude >> 8, 254)
    part = magnitude & 0xFF
    result = (table[index] << 8) + part * (table[index + 1] - table[index])
    result = np.where(magnitude >> 8 >= 255, 0xFFFF << 8, result)
    middle, nudge = 1 << 23, 1 << 7
    signed = np.where(x >= 0, result - middle + nudge, -result + middle + nudge - 1)
    return (signed >> 8).astype(np.int16)


def _interpolated_sigmoid(magnitude: np.ndarray) -> np.ndarray:
    table = _sigmoid_table()
    index = np.minimum(magnitude >> _FRACTION_16, 254)
    part = magnitude & ((1 << _FRACTION_16) - 1)
    result = (table[index] << _FRACTION_16) + part * (table[index + 1] - table[index])
    return np.where(magnitude >> _FRACTION_16 >= 255, 0x7FFF << 10, result)
