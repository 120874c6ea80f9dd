"""Operators that only change parameters or type: QUANTIZE, DEQUANTIZE, CAST, and linear pieces.

RELU and its kin, LEAKY_RELU, PRELU, ABS and NEG are scalings by pieces.
"""

import numpy as np

from qcompile.core.numerics.affine import limits
from qcompile.targets.tflite.reference.call import Call, Kernel, clamp_range, finish
from qcompile.targets.tflite.reference.multiplier import (
    Multiplier,
    double_rounding,
    half_away,
    half_up_rounding,
    quantize_multiplier,
)

_RELU, _RELU_N1_TO_1, _RELU6, _RELU_0_TO_1 = 1, 2, 3, 7
_XNNPACK_BITS = 8
_BLOCK = 16
_LEAST, _GREATEST = 2.0**-8, 2.0**7
"""Ratios of scales between which XNNPACK takes QUANTIZE and LEAKY_RELU."""


def quantize(call: Call) -> Kernel:
    """Real numbers to integers, or integers to other parameters or another type."""
    if call.is_float:
        return [_from_real(call)]
    centered = call.centered(0)
    ratio = np.float64(call.x.scale) / np.float64(call.y.scale)
    by = quantize_multiplier(ratio)
    if not call.xnnpack or call.x.dtype == "int16":
        return [finish(call, double_rounding(centered, by), 0)]
    short = call.x.scale / call.y.scale
    if call.x.dtype == call.y.dtype and _LEAST <= short <= _GREATEST:
        return [finish(call, _eighths(centered, short), 0)]
    return [finish(call, _builtin(centered, by), 0)]


def dequantize(call: Call) -> Kernel:
    """Integers to real numbers; half-precision constants to single."""
    tensor = call.x
    if tensor.scales is None:
        return [call.array(0).astype(np.float32)]
    shape = [1] * call.array(0).ndim
    if tensor.per_channel:
        shape[tensor.axis] = -1
    return [call.centered(0).astype(np.float32) * tensor.scales.reshape(shape)]


def cast(call: Call) -> Kernel:
    """Elements as another type: integers as they are, whatever their parameters."""
    return [call.array(0).astype(call.y.dtype)]


def relu(call: Call) -> Kernel:
    """From 0 up."""
    return _clamped(call, _RELU, 0.0, np.inf)


def relu_n1_to_1(call: Call) -> Kernel:
    """From -1 to 1."""
    return _clamped(call, _RELU_N1_TO_1, -1.0, 1.0)


def relu_0_to_1(call: Call) -> Kernel:
    """From 0 to 1."""
    return _clamped(call, _RELU_0_TO_1, 0.0, 1.0)


def relu6(call: Call) -> Kernel:
    """From 0 to 6."""
    return _clamped(call, _RELU6, 0.0, 6.0)


def leaky_relu(call: Call) -> Kernel:
    """``alpha * x`` below 0; each piece has its multiplier."""
    alpha = np.float32(call.option("alpha", 0.0))
    if call.is_float:
        x = call.array(0)
        return [np.where(x > 0, x, x * alpha)]
    x = call.centered(0)
    slopes = call.x.scale / call.y.scale, call.x.scale * alpha / call.y.scale
    in_float = slopes[0], slopes[0] * alpha
    if call.xnnpack and all(_LEAST <= abs(s) <= _GREATEST for s in in_float):
        return [finish(call, np.where(x > 0, *(_eighths(x, s) for s in in_float)), 0)]
    pieces = (double_rounding(x, quantize_multiplier(s)) for s in slopes)
    return [finish(call, np.where(x >= 0, *pieces), 0)]


def prelu(call: Call) -> Kernel:
    """As LEAKY_RELU with a tensor of slopes, which has its own scale."""
    if call.is_float:
        x = call.array(0)
        return [np.where(x >= 0, x, x * call.array(1))]
    x = call.centered(0)
    positive = quantize_multiplier(call.x.scale / call.y.scale)
    negative = quantize_multiplier(call.x.scale * call.tensor(1).scale / call.y.scale)
    pieces = double_rounding(x, positive), double_rounding(x * call.centered(1), negative)
    return [finish(call, np.where(x >= 0, *pieces), 0)]


def absolute(call: Call) -> Kernel:
    """The magnitude; scaled only where the scales differ."""
    if not call.y.is_quantized:
        return [np.abs(call.array(0))]
    magnitude = np.abs(call.centered(0))
    if call.x.scale != call.y.scale:
        magnitude = double_rounding(magnitude, quantize_multiplier(call.x.scale / call.y.scale))
    return [finish(call, magnitude, 0)]


def negative(call: Call) -> Kernel:
    """The integer itself negated, whatever its parameters."""
    return [-call.array(0)]


def _from_real(call: Call) -> np.ndarray:
    """``round(x / s) + z``, halves away from zero; XNNPACK: times ``1/s``, halves to even."""
    x, scale = call.array(0).astype(np.float32), call.y.scale
    whole = np.rint(x * (np.float32(1) / scale)) if call.xnnpack else half_away(x / scale)
    low, high = limits(call.y.dtype)
    return np.clip(whole.astype(np.float64) + call.y.zero_point, low, high).astype(call.y.dtype)


def _clamped(call: Call, activation: int, low: float, high: float) -> Kernel:
    if call.is_float:
        return [np.clip(call.array(0), np.float32(low), np.float32(high))]
    by = quantize_multiplier(call.x.scale / call.y.scale)
    scaled = double_rounding(call.centered(0), by) + call.y.zero_point
    return [np.clip(scaled, *clamp_range(call.y, activation)).astype(call.y.dtype)]


def _builtin(x: np.ndarray, by: Multiplier) -> np.ndarray:
    """The builtin kernel, which runs where XNNPACK declines: blocks of 16 elements as on ARM.

    What is left after the last block goes as in the reference kernel.
    """
    flat = x.reshape(-1)
    blocks = flat.size // _BLOCK * _BLOCK
    parts = half_up_rounding(flat[:blocks], by), double_rounding(flat[blocks:], by)
    return np.concatenate(parts).reshape(x.shape)


def _eighths(x: np.ndarray, ratio: np.float32) -> np.ndarray:
    """XNNPACK's scaling of 8-bit integers: by a multiple of 1/256, halves up.

    Source: XNNPACK, ``microparams-init.c``, xnn_init_qs8_cvt and qs8_lrelu params.
    """
    factor = np.int64(np.rint(np.float32(1 << _XNNPACK_BITS) * ratio))
    return np.asarray((x * factor + (1 << (_XNNPACK_BITS - 1))) >> _XNNPACK_BITS)
