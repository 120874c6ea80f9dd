"""The scale, type and granularity of every weight."""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import (
    dequantize,
    limits,
    quantize,
    symmetric_params,
    weight_limits,
)
from qcompile.core.plan import QuantParams, QuantPlan, ValuePlan
from qcompile.core.target import Target
from qcompile.core.units import COMPUTE_OPS, Unit, output_channel_axis, units

GRID_SCALE_KEY = "qcompile.grid_scale"
"""metadata_props key of a weight that came out of a DequantizeLinear: its scales, as text."""

IMPORTED = "imported"
"""Rule of parameters that a file of encodings or the model itself gives: they stay if they can."""

_CHANNEL_GAIN_DB = 0.5
"""Per-channel scales must buy at least this much SQNR of the weight over one scale."""

_SMALLEST_SHARE = 2.0**-24
"""A channel's absmax counts as zero below this share of the tensor's: its float32 rounding."""

_NARROW = 15
"""Steps of a type up to which a weight's scale is sought by its error."""

_SHARES = tuple(np.linspace(1.1, 0.2, 46))
"""Scales that are tried, relative to the one that reaches the largest magnitude."""


@dataclass(frozen=True)
class WeightChoice:
    """Parameters of a weight, and why they have the granularity they have."""

    params: QuantParams
    axis: int | None
    rule: str
    reason: str


def choose_weights(
    graph: ir.Graph, plan: QuantPlan, target: Target, granularity: str | None = None
) -> None:
    """Set granularity and parameters of every weight entry.

    Args:
        graph: the canonical float graph.
        plan: its weight entries are completed.
        target: says which ops take a scale an output channel.
        granularity: ``tensor`` or ``channel`` to force one where it is possible; None to choose
            layer by layer.

    """
    for unit in units(graph, plan):
        weight = unit.weight
        entry = plan.quantized(weight.name) if weight is not None else None
        if weight is None or entry is not None:
            continue
        array = g.constant(weight)
        assert array is not None and weight.name is not None
        axis = channel_axis(unit, weight, target)
        choice = _choose(array, plan.values[weight.name], axis, weight, granularity)
        plan.values[weight.name] = replace(
            plan.values[weight.name],
            granularity="tensor" if choice.axis is None else "channel",
            axis=choice.axis,
            params=choice.params,
            rule=choice.rule,
            reason=choice.reason,
        )


def channel_axis(unit: Unit, weight: ir.Value, target: Target) -> int | None:
    """The axis along which this weight may have scales of its own on this target, or None.

    A weight that several multiply-adds read along different axes has none. Its other readers keep
    the float numbers and do not matter.
    """
    if not target.ops[unit.node.op_type].per_channel or "channel" not in target.weights.granularity:
        return None
    rank = g.rank(weight) or 0
    readers = [u.node for u in weight.uses() if u.idx == 1 and u.node.op_type in COMPUTE_OPS]
    axes = {output_channel_axis(node, rank) for node in readers}
    return axes.pop() if len(axes) == 1 else None


def _choose(
    array: np.ndarray,
    entry: ValuePlan,
    axis: int | None,
    weight: ir.Value,
    granularity: str | None,
) -> WeightChoice:
    grid = _grid_params(weight, array, entry, axis)
    if grid is not None:
        return grid
    low, high = limits(entry.dtype)
    narrow = high - low <= _NARROW
    rule, params = ("mse", _least_error) if narrow else ("absmax", _absmax_params)
    tensor = params(array, entry.dtype, None)
    if axis is None:
        return WeightChoice(tensor, None, rule, "the kernel takes one scale a weight")
    if granularity == "tensor":
        return WeightChoice(tensor, None, rule, "asked for")
    channel = params(array, entry.dtype, axis)
    if granularity == "channel":
        return WeightChoice(channel, axis, rule, "asked for")
    gain = _sqnr(array, entry.dtype, channel, axis, axis) - _sqnr(
        array, entry.dtype, tensor, None, axis
    )
    if gain < _CHANNEL_GAIN_DB:
        return WeightChoice(tensor, None, rule, f"scales a channel would gain {gain:.1f} dB")
    return WeightChoice(channel, axis, rule, f"{gain:.1f} dB better than one scale")


def _absmax_params(array: np.ndarray, dtype: str, axis: int | None) -> QuantParams:
    """Symmetric parameters of the largest magnitude, of the tensor or of each channel.

    A channel that is zero to within the rounding of float32 takes the median scale of the others:
    its integers are zero either way, and its bias keeps a step that fits the layer.
    """
    others = None if axis is None else tuple(i for i in range(array.ndim) if i != axis)
    high, low = array.max(axis=others, initial=0.0), array.min(axis=others, initial=0.0)
    absmax = np.asarray(np.maximum(high, -low))
    if axis is None:
        return QuantParams(*symmetric_params(absmax, dtype))
    dead = _is_dead(absmax)
    if dead.any() and not dead.all():
        absmax = np.where(dead, np.median(absmax[~dead]), absmax)
    return QuantParams(*symmetric_params(absmax, dtype))


def _least_error(array: np.ndarray, dtype: str, axis: int | None) -> QuantParams:
    """Symmetric parameters with the least sum of squared errors, of the tensor or of each channel.

    With few steps it pays to clip the largest weights: of ``_SHARES`` of the scale that would reach
    the largest magnitude, the best is taken, the first of equal ones.
    """
    low, high = weight_limits(dtype)
    full = _absmax_params(array, dtype, axis).scale
    rows = array.reshape(1, -1) if axis is None else np.moveaxis(array, axis, 0)
    rows = np.ascontiguousarray(rows, np.float32).reshape(full.size, -1)
    scales = np.multiply.outer(np.asarray(_SHARES, np.float32), full.reshape(-1))
    best, least = scales[0], np.full(full.size, np.inf)
    error = np.empty_like(rows)
    for scale in scales:
        np.divide(rows, scale[:, None], out=error)
        np.rint(error, out=error)
        np.clip(error, low, high, out=error)
        error *= scale[:, None]
        error -= rows
        squares = np.einsum("ij,ij->i", error, error)
        better = squares < least
        best, least = np.where(better, scale, best), np.where(better, squares, least)
    return QuantParams(best.reshape(full.shape), np.zeros(full.shape, np.int64))


def _is_dead(absmax: np.ndarray) -> np.ndarray:
    """Channels that are zero to within the rounding of float32."""
    return np.asarray(absmax <= absmax.max(initial=0.0) * _SMALLEST_SHARE)


def _sqnr(
    array: np.ndarray, dtype: str, params: QuantParams, along: int | None, axis: int
) -> float:
    """Signal to quantization noise of a weight in dB, every channel along ``axis`` counting alike.

    A channel's noise is taken relative to its own signal, as the layer's output sees it. Dead
    channels do not count: no scale keeps them, and their whole signal as noise would hide all else.
    """
    q = quantize(array, params.scale, params.zero_point, dtype, along)
    error = dequantize(q, params.scale, params.zero_point, along)
    error -= array
    others = tuple(i for i in range(array.ndim) if i != axis)
    signal = np.square(array, dtype=np.float64).sum(axis=others)
    live = ~_is_dead(np.abs(array).max(axis=others, initial=0.0))
    noise = np.square(error, dtype=np.float64).sum(axis=others)[live] / signal[live]
    mean = float(noise.mean()) if noise.size else 0.0
    return 200.0 if mean == 0 else -10 * float(np.log10(mean))


def _grid_params(
    weight: ir.Value, array: np.ndarray, entry: ValuePlan, axis: int | None
) -> WeightChoice | None:
    """The grid a weight lies on already, when its model was stored quantized: nothing is lost."""
    text = weight.metadata_props.get(GRID_SCALE_KEY)
    if text is None:
        return None
    scale = np.asarray([float(s) for s in text.split(",")], np.float32)
    along = None if scale.size == 1 else axis
    if scale.size != 1 and (axis is None or array.shape[axis] != scale.size):
        return None
    params = QuantParams(
        scale.reshape(()) if along is None else scale,
        np.zeros(() if along is None else scale.shape, np.int64),
    )
    low, high = limits(entry.dtype)
    q = quantize(array, params.scale, params.zero_point, entry.dtype, along).astype(np.int64)
    exact = np.array_equal(dequantize(q, params.scale, params.zero_point, along), array)
    if not exact or q.min(initial=0) < low or q.max(initial=0) > high:
        return None
    return WeightChoice(params, along, "grid", "the file stores it on this grid: exact")


def rescale(entry: ValuePlan, scale: np.ndarray, why: str) -> ValuePlan:
    """The same weight entry with other scales."""
    assert entry.params is not None
    params = QuantParams(scale.astype(np.float32), entry.params.zero_point)
    reason = f"{entry.reason}; {why}" if entry.reason else why
    return replace(entry, params=params, reason=reason)
