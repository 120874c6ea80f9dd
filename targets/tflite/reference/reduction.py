"""MEAN, SUM, REDUCE_MAX, REDUCE_MIN, ARG_MAX and ARG_MIN."""

import numpy as np

from qcompile.core.numerics.affine import limits
from qcompile.targets.tflite.reference.call import Call, Kernel, finish
from qcompile.targets.tflite.reference.multiplier import (
    Multiplier,
    double_rounding,
    quantize_multiplier,
)


def mean(call: Call) -> Kernel:
    """The mean over axes: the sum times a multiplier that holds ``1/n``."""
    axes, keep = _axes(call), bool(call.option("keepDims", False))
    if not call.y.is_quantized:
        real = call.array(0).mean(axis=axes, keepdims=keep, dtype=np.float32)
        return [np.asarray(real, call.y.dtype)]
    n = int(np.prod([call.array(0).shape[a] for a in axes]))
    sums = call.centered(0).sum(axis=axes, keepdims=keep)
    if call.xnnpack:
        share = np.float32(1) / np.float32(n)
        return [_xnnpack(call, axes, keep, call.x.scale / call.y.scale * share)]
    by = quantize_multiplier(np.float64(call.x.scale) / np.float64(call.y.scale))
    # 1/n goes into the multiplier, raised by as many bits as it has room for.
    shift = min(n.bit_length() - 1, 32, 31 + int(by.e))
    divided = Multiplier(np.asarray((int(by.q) << shift) // n), by.e - shift)
    return [finish(call, double_rounding(sums, divided), 0)]


def reduce_sum(call: Call) -> Kernel:
    """The sum over axes. LiteRT's reference kernel is wrong here; this is what the others do."""
    axes, keep = _axes(call), bool(call.option("keepDims", False))
    if not call.y.is_quantized:
        return [np.asarray(call.array(0).sum(axis=axes, keepdims=keep, dtype=call.y.dtype))]
    sums = call.centered(0).sum(axis=axes, keepdims=keep)
    if call.xnnpack:
        return [_xnnpack(call, axes, keep, call.x.scale / call.y.scale)]
    by = quantize_multiplier(np.float64(call.x.scale) / np.float64(call.y.scale))
    return [finish(call, double_rounding(sums, by), 0)]


def reduce_max(call: Call) -> Kernel:
    """The greatest over axes; parameters are shared."""
    keep = bool(call.option("keepDims", False))
    return [np.asarray(call.array(0).max(axis=_axes(call), keepdims=keep))]


def reduce_min(call: Call) -> Kernel:
    """The least over axes; parameters are shared."""
    keep = bool(call.option("keepDims", False))
    return [np.asarray(call.array(0).min(axis=_axes(call), keepdims=keep))]


def arg_max(call: Call) -> Kernel:
    """Index of the first greatest element along an axis."""
    axis = call.integers(1)[0]
    return [np.asarray(call.array(0).argmax(axis=axis)).astype(call.y.dtype)]


def arg_min(call: Call) -> Kernel:
    """Index of the first least element along an axis."""
    axis = call.integers(1)[0]
    return [np.asarray(call.array(0).argmin(axis=axis)).astype(call.y.dtype)]


def cumulative_sum(call: Call) -> Kernel:
    """Running sums along an axis, of real numbers or plain integers."""
    x, axis = call.array(0), call.integers(1)[0]
    if call.option("reverse", False):
        x = np.flip(x, axis)
    sums = np.cumsum(x, axis=axis, dtype=x.dtype)
    if call.option("exclusive", False):
        sums = sums - x
    return [np.flip(sums, axis) if call.option("reverse", False) else sums]


def top_k(call: Call) -> Kernel:
    """The greatest elements of each row in order, the first of equal ones first; their indices."""
    order = np.argsort(-call.array(0).astype(np.float64), axis=-1, kind="stable")
    chosen = order[..., : call.integers(1)[0]]
    return [np.take_along_axis(call.array(0), chosen, axis=-1), chosen.astype(np.int32)]


def _xnnpack(call: Call, axes: tuple[int, ...], keep: bool, scale: np.float32) -> np.ndarray:
    """XNNPACK's: the sum of the integers as they are, times a scale, plus one offset, in float32.

    The offset holds both zero points; the order of these steps decides where ties fall (measured).
    """
    x = call.array(0)
    sums = x.sum(axis=axes, keepdims=keep, dtype=np.int64).astype(np.float32)
    zeros = call.x.zero_point * int(np.prod([x.shape[axis] for axis in axes]))
    offset = np.float32(call.y.zero_point) - np.float32(zeros) * scale
    return np.asarray(
        np.clip(np.rint(sums * scale + offset), *limits(call.y.dtype)).astype(call.y.dtype)
    )


def _axes(call: Call) -> tuple[int, ...]:
    rank = call.array(0).ndim
    return tuple(sorted({axis % rank for axis in call.integers(1)}))
