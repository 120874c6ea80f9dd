"""Sums of products of integers: computed in float64, where they are exact, and then scaled."""

import numpy as np

from qcompile.targets.tflite.reference.call import Call, finish
from qcompile.targets.tflite.reference.multiplier import (
    double_rounding,
    float_rule,
    half_away,
    quantize_multiplier,
    wide,
)

_LARGEST = 2.0**53
"""Below it every integer is a float64."""


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrix product of integer arrays, exact, int64.

    Float64 products go through BLAS. A sum of ``k`` products of these types stays below 2**53
    whatever its order, and is therefore exact; where the bound does not hold, integers multiply.
    """
    bound = float(np.abs(a).max(initial=0)) * float(np.abs(b).max(initial=0)) * a.shape[-1]
    if bound >= _LARGEST:
        return np.asarray(np.matmul(a.astype(np.int64), b.astype(np.int64)))
    return np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int64))


def with_bias(call: Call, sums: np.ndarray, index: int) -> np.ndarray:
    """Sums plus the bias, the optional input ``index``, along the last axis."""
    return sums + call.array(index).astype(sums.dtype) if call.has(index) else sums


def rescale(call: Call, sums: np.ndarray, weight: int, activation: int | None = None) -> np.ndarray:
    """Scale sums of CONV_2D and its kin by ``s_x * s_w / s_y`` a channel (the last axis).

    Reference kernels take the product and quotient in float64 and round by D (8 bits) or I (16);
    XNNPACK takes them in float32, in this order, and follows its own rule.
    """
    scales, s_x, s_y = call.tensor(weight).scales, _input_scale(call, weight), call.y.scale
    assert scales is not None
    if call.xnnpack:
        return finish(call, float_rule(sums, s_x * scales / s_y), activation)
    real = np.float64(s_x) * scales.astype(np.float64) / np.float64(s_y)
    return rescale_by_multiplier(call, sums, real, activation)


def rescale_by_multiplier(
    call: Call, sums: np.ndarray, real: np.ndarray, activation: int | None = None
) -> np.ndarray:
    """Scale sums by the quantized multiplier of ``real`` (float64): D for 8 bits, I for 16."""
    by = quantize_multiplier(real)
    rounded = wide(sums, by) if call.y.dtype == "int16" else double_rounding(sums, by)
    return finish(call, rounded, activation)


def rescale_by_double(call: Call, sums: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Scale sums as FULLY_CONNECTED's reference kernel does: in float64, halves away from zero."""
    return finish(call, half_away(sums.astype(np.float64) * real).astype(np.int64))


def _input_scale(call: Call, weight: int) -> np.float32:
    """The scale of the data: TRANSPOSE_CONV has them after the weights."""
    return call.tensor(2 if call.op == "TRANSPOSE_CONV" else 0).scale
