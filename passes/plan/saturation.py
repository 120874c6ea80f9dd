"""Weights that no activation can make saturate: safe scales, or a type that cannot overflow.

Rules, for the weight of one multiply-add on a target whose sums saturate:

1. A channel that is proved safe from its integers is left alone.
2. A channel at risk gets the smallest scale at which its nearest integers are safe.
3. The whole weight takes the alternative type instead (the same integers shifted by half their
   range: nothing is lost) where rule 2 would lose more than ``worth * (alternative_cost - 1)`` dB;
   both numbers stand in the target's file.

What is proved holds for nearest integers at the returned scales. Whoever rounds otherwise asks
``core.numerics.saturation.channels_at_risk`` again.
"""

from dataclasses import dataclass

import numpy as np

from qcompile.core.numerics.affine import dequantize, is_signed, quantize, zero_offset
from qcompile.core.numerics.saturation import Kind, channels_at_risk, safe_scales
from qcompile.core.plan import QuantParams
from qcompile.core.target import Saturation, Target

_ON_GRID = 1e-3
"""Share of the usual rounding noise below which a channel's weights lay on the grid already."""


@dataclass(frozen=True, eq=False)
class SafeWeight:
    """How one weight is kept from saturating."""

    dtype: str
    """The type it was given, or the target's alternative."""
    params: QuantParams
    channels: int
    at_risk: int
    """Channels that some activations could have made saturate."""
    loss_db: float
    """SQNR of the weight that safe scales cost, every channel counting alike; >= 0. It is what was
    lost when ``dtype`` is the given type, and what was avoided when it is the alternative."""
    reason: str
    """One sentence for the report; empty where nothing had to be done."""

    @property
    def changed(self) -> bool:
        """Whether type or scales are others than those given."""
        return bool(self.reason)


def keep_from_saturating(
    weight: np.ndarray,
    dtype: str,
    params: QuantParams,
    axis: int,
    kind: Kind | None,
    target: Target,
    *,
    per_channel: bool = False,
    keep_scales: bool = False,
) -> SafeWeight:
    """Decide type and scales of a weight so that the target's kernel cannot saturate on it.

    Args:
        weight: float weights in ONNX layout.
        dtype: the type the plan gave it.
        params: its scales, shape () or one an output channel.
        axis: the axis of its output channels (the last one for a stack of matrices).
        kind: of the kernel (``core.numerics.saturation.kind_of``).
        target: its ``saturation`` says what the kernel does; nothing, when there is none.
        per_channel: whether a weight with one scale may get one a channel, so that only the
            channels at risk lose precision; the caller then changes its granularity as well.
        keep_scales: the scales are given, and to be kept: the alternative type at any cost.
    """
    channels = weight.shape[axis]
    untouched = SafeWeight(dtype, params, channels, 0, 0.0, "")
    saturation = target.saturation
    if saturation is None or kind is None or not is_signed(dtype) or not weight.size:
        return untouched
    pairing = saturation.pairing.get(kind, "any")
    along = None if params.scale.ndim == 0 else axis
    integers = quantize(weight, params.scale, params.zero_point, dtype, along)
    at_risk = int(channels_at_risk(integers, axis, pairing, saturation).sum())
    if not at_risk:
        return untouched
    before = np.broadcast_to(params.scale, (channels,))
    safe = safe_scales(weight, before, axis, pairing, saturation, dtype)
    if along is None and not per_channel:
        safe = np.broadcast_to(safe.max(), (channels,))
    loss = _loss_db(weight, dtype, before, safe, axis)
    what = f"{at_risk} of {channels} channels could overflow int16 on {target.name}"
    alternative = _alternative(kind, saturation, target, np.inf if keep_scales else loss)
    if alternative is not None:
        shift = zero_offset(alternative) - zero_offset(dtype)
        moved = QuantParams(params.scale, params.zero_point + shift)
        reason = "its scales are given" if keep_scales else f"safe scales would lose {loss:.1f} dB"
        why = f"{what}: {alternative}, since {reason}"
        return SafeWeight(alternative, moved, channels, at_risk, loss, why)
    why = f"{what}: their scales raised, {loss:.1f} dB of the weight lost"
    shared = along is None and not per_channel
    scale = np.asarray(safe[0] if shared else safe, np.float32)
    zero_point = np.broadcast_to(params.zero_point, scale.shape).astype(np.int64)
    return SafeWeight(dtype, QuantParams(scale, zero_point), channels, at_risk, loss, why)


def _alternative(kind: Kind, saturation: Saturation, target: Target, loss: float) -> str | None:
    """The type that costs time instead of accuracy, where that is the better bargain."""
    cost = saturation.alternative_cost.get(kind)
    if cost is None or loss <= saturation.worth * (cost - 1):
        return None
    return target.weights.alternative


def _loss_db(
    weight: np.ndarray, dtype: str, before: np.ndarray, after: np.ndarray, axis: int
) -> float:
    """SQNR lost between two sets of scales, in dB, averaged over the channels.

    A channel that lay on its grid (it was stored as integers) counts as if it had been rounded;
    one whose scale did not change lost nothing, whatever its noise.
    """
    noise = _noise(weight, dtype, after, axis)
    counts = np.count_nonzero(np.moveaxis(weight, axis, 0).reshape(len(before), -1), axis=1)
    rounded = counts * np.square(before, dtype=np.float64) / 12
    was = _noise(weight, dtype, before, axis)
    was = np.where(was < rounded * _ON_GRID, rounded, was)
    raised = (after > before) & (was > 0) & (noise > was)
    ratio = np.divide(noise, was, out=np.ones_like(noise), where=raised)
    return float(10 * np.log10(ratio).mean())


def _noise(weight: np.ndarray, dtype: str, scale: np.ndarray, axis: int) -> np.ndarray:
    """Energy of the rounding error of each channel."""
    zero = np.full(scale.shape, zero_offset(dtype), np.int64)
    integers = quantize(weight, scale, zero, dtype, axis)
    error = dequantize(integers, scale, zero, axis) - weight
    by_channel = np.moveaxis(error, axis, 0).reshape(len(scale), -1)
    energy: np.ndarray = np.square(by_channel, dtype=np.float64).sum(axis=1)
    return energy
