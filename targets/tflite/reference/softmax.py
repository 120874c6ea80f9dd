"""SOFTMAX and LOG_SOFTMAX along the last axis.

The reference kernels work in fixed point. XNNPACK takes neither in 8 bits; the builtin kernels that
then run work in float32 with a table of exponentials, and so does the rule ``xnnpack`` here.
Source: LiteRT, ``reference/softmax.h``, ``integer_ops/log_softmax.h``, ``optimized_ops.h``.
"""

import numpy as np

from qcompile.core.numerics.affine import limits
from qcompile.targets.tflite.reference.call import Call, Kernel
from qcompile.targets.tflite.reference.fixed_point import (
    exp_of_negative,
    leading_zeros,
    log_of_at_least_one,
    reciprocal,
)
from qcompile.targets.tflite.reference.lookup import interpolate, interpolation_table
from qcompile.targets.tflite.reference.multiplier import (
    Multiplier,
    divide_by_power,
    double_rounding,
    half_away,
    high_multiply,
    quantize_multiplier,
)

_INPUT_BITS = 5
_SUM_BITS = 12
_LOG_BITS = 5
_OUTPUT_BITS = 4
_SPAN_16 = 65535
_LOWEST_EXPONENT_16 = 10.0
"""The int16 softmax takes exp(-10) for zero."""


def softmax(call: Call) -> Kernel:
    """``exp(beta x) / sum(exp(beta x))``."""
    beta = np.float32(call.option("beta", 1.0))
    if call.is_float:
        x = call.array(0)
        raised = np.exp((x - x.max(axis=-1, keepdims=True)) * beta)
        return [raised / raised.sum(axis=-1, keepdims=True)]
    if call.x.dtype == "int16":
        return [_softmax_16(call, beta)]
    if call.rule == "xnnpack":
        return [_softmax_by_table(call, beta)]
    return [_softmax_8(call, beta)]


def log_softmax(call: Call) -> Kernel:
    """``x - log(sum(exp(x)))``."""
    if call.is_float:
        x = call.array(0)
        below = x - x.max(axis=-1, keepdims=True)
        return [below - np.log(np.exp(below).sum(axis=-1, keepdims=True))]
    if call.rule == "xnnpack":
        return [_log_softmax_by_table(call)]
    return [_log_softmax_8(call)]


def _input_scaling(scale: np.float32, beta: np.float32) -> tuple[Multiplier, int]:
    """Multiplier from input steps to F5, and the least difference that does not overflow it."""
    real = min(float(beta) * float(scale) * 2.0 ** (31 - _INPUT_BITS), 2.0**31 - 1)
    by = quantize_multiplier(real)
    radius = (2**_INPUT_BITS - 1) * 2.0 ** (31 - _INPUT_BITS) / 2.0 ** int(by.e)
    return by, -int(radius)


def _differences(call: Call) -> np.ndarray:
    x = call.array(0).astype(np.int64)
    return np.asarray(x - x.max(axis=-1, keepdims=True))


def _softmax_8(call: Call, beta: np.float32) -> np.ndarray:
    by, least = _input_scaling(call.x.scale, beta)
    below = _differences(call)
    near = below >= least
    scaled = high_multiply(np.where(near, below, 0) << by.e, by.q)
    raised = np.where(near, exp_of_negative(scaled, _INPUT_BITS), 0)
    total = divide_by_power(raised, _SUM_BITS).sum(axis=-1, keepdims=True)
    inverse, above = reciprocal(total, _SUM_BITS)
    low, high = limits(call.y.dtype)
    bits = 16 if call.y.dtype == "int16" else 8
    q = divide_by_power(high_multiply(inverse, raised), above + 31 - bits) + low
    return np.where(near, np.clip(q, low, high), low).astype(call.y.dtype)


def _softmax_by_table(call: Call, beta: np.float32) -> np.ndarray:
    table = np.exp(np.arange(256, dtype=np.float32) * (-call.x.scale * beta))
    raised = table[-_differences(call)]
    # The kernel adds one after the other in float32.
    total = np.add.accumulate(raised, axis=-1)[..., -1:]
    inverse = np.float32(1) / (total * call.y.scale)
    low, high = limits(call.y.dtype)
    q = half_away(raised * inverse).astype(np.int64) + call.y.zero_point
    return np.clip(q, low, high).astype(call.y.dtype)


def _softmax_16(call: Call, beta: np.float32) -> np.ndarray:
    exponents = interpolation_table(np.exp, -_LOWEST_EXPONENT_16, 0.0)
    inverses = interpolation_table(lambda v: 1.0 / (1.0 + v), 0.0, 1.0)
    real = np.float64(call.x.scale * beta) / (_LOWEST_EXPONENT_16 / _SPAN_16)
    by = quantize_multiplier(real)
    scaled = double_rounding(_differences(call), by) + 32767
    raised = interpolate(exponents, np.clip(scaled, -32768, 32767))
    total = raised.sum(axis=-1, keepdims=True)
    zeros = leading_zeros(total)
    shifted = ((total << (zeros - 1)) + (1 << 13)) >> 14
    inverse = interpolate(inverses, np.clip(shifted - (1 << 15) - (1 << 16), -32768, 32767))
    shift = 31 - zeros
    q = (raised * inverse + (np.int64(1) << (shift - 1))) >> shift
    return np.asarray(np.clip(q, 0, 32767).astype(np.int16))


def _log_softmax_8(call: Call) -> np.ndarray:
    by, least = _input_scaling(call.x.scale, np.float32(1))
    back = quantize_multiplier((1 << (31 - int(by.e))) / np.float64(by.q))
    below = _differences(call)
    near = below >= least
    scaled = double_rounding(np.where(near, below, 0), by)
    raised = np.where(near, exp_of_negative(scaled, _INPUT_BITS), 0)
    total = divide_by_power(raised, _SUM_BITS).sum(axis=-1, keepdims=True)
    log = log_of_at_least_one(total, _SUM_BITS, _LOG_BITS)
    kept = below > np.maximum(least - 1, double_rounding(log - (1 << 31), back))
    q = divide_by_power(scaled - log, 31 - _INPUT_BITS - _OUTPUT_BITS) + call.y.zero_point
    low, high = limits(call.y.dtype)
    return np.where(kept, np.clip(q, low, high), low).astype(call.y.dtype)


def _log_softmax_by_table(call: Call) -> np.ndarray:
    table = np.exp(np.arange(256, dtype=np.float32) * -call.x.scale)
    x = call.array(0)
    top = x.max(axis=-1, keepdims=True).astype(np.float32)
    total = np.add.accumulate(table[-_differences(call)], axis=-1)[..., -1:]
    offset = (call.x.scale * top + np.log(total)) / call.y.scale
    q = np.rint(call.x.scale / call.y.scale * x.astype(np.float32) - offset)
    low, high = limits(call.y.dtype)
    return np.asarray(
        np.clip(q.astype(np.int64) + call.y.zero_point, low, high).astype(call.y.dtype)
    )
