"""Cross-layer equalization: layers in a row share out the ranges of their channels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.statistics.channel_absmax import ChannelAbsMax
from qcompile.passes.plan.activations import is_nonnegative
from qcompile.passes.prepare.edit import is_op
from qcompile.passes.transform.apply import apply_factors
from qcompile.passes.transform.channels import Group, find_groups
from qcompile.passes.transform.lanes import Lane, clip_of
from qcompile.passes.transform.magnitudes import Magnitudes

NAME: Final = "equalize"

ABSMAX: Final = "channel absmax"
"""Name of the statistic asked for."""

TOWARDS: Final = {"tensor": 0.0, "channel": 0.4}
"""Granularity of the weights' scales -> how much the activation's range counts."""

ROUNDS: Final = 30
"""Most rounds over all groups."""

CLOSE: Final = 0.01
"""Rounds end when no factor changes by more than this share."""

MOST: Final = 2.0**16
"""Largest factor; its inverse is the smallest."""

SILENT: Final = 1e-9
"""A channel's range counts as zero below this share of its tensor's: it is left as it is."""

_CLAMPS: Final = ("Relu", "Clip", "LeakyRelu", "PRelu")


@dataclass(frozen=True)
class Equalize(ir.passes.InPlacePass):
    """Scale channels between layers by factors found before (Nagel et al. 2019, section 4.1).

    For a layer, a function f with ``f(x / s) = f(x) / s`` and the layer that reads it,

        W2 f(W1 x + b1) = (W2 s) f((W1 / s) x + b1 / s)       s > 0, one number a channel

    Matched are the groups of ``channels.find_groups`` that only layers write into and read from:
    through Relu, LeakyRelu, PRelu, pools, Resize, Pad, Reshape, Transpose and residual Adds, whose
    members share one factor. Left alone: whatever lies between other ops, graph ends, and weights
    that are shared or lie on an integer grid already.

    The float function is kept but for the rounding of the new weights to float32. With a Clip in
    the group it is kept wherever no channel reaches further than calibration has seen it (``find``
    leaves channels alone that reach the limit).

    Args:
        factors: first value of a group -> s, float32 (channels,); QCompileError(BAD_PLAN) when the
            graph has no such group.
    """

    factors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply what was not applied to this graph before."""
        return ir.passes.PassResult(model, apply_factors(model, NAME, self.factors))


def request(model: ir.Model) -> StatisticRequest:
    """The statistics that ``find`` needs: how far each channel between two layers reaches."""
    return reach_request(pairs(model.graph))


def find(
    model: ir.Model,
    statistics: Statistics,
    granularity: str | None = None,
    *,
    towards: float | None = None,
) -> dict[str, np.ndarray]:
    """Find the factors, round after round over all groups until they settle.

    A round gives each group ``s = sqrt(r1 / r2)`` a channel, r1 and r2 the ranges of its weights
    in the layers that write and that read it, each relative to its whole weight: then both are
    equal. With one scale a weight that is what matters. With one a channel r1 costs nothing, and
    the range a of the activation takes its part: ``s = sqrt(r1**(1 - t) * a**t / r2)``. Measured
    on real models (SQNR of the outputs): t = 0 is best for one scale a weight, 0.3 to 0.5 for one
    a channel; factors rounded to powers of two lose 1 to 2 dB of what others gain.

    1. No activation outgrows the widest channel of its group as it was: ``s >= a / max(a)``.
    2. Where the group has a Clip at h, a channel that was seen at h has s = 1, any other
       ``s >= a / h``, and the common factor is such that the first ones would be 1 on average.
       (Dropping the limits instead takes MobileNet v1 from 84.5 to 68.3 % before quantization.)
    3. A channel whose range is zero on either side gets no factor but the common one.

    Absorbing high biases (Nagel 2019, section 4.1.3) is left out: what a channel never falls below
    takes 1 % of the ranges in convolutional networks, padding forbids it, and zero stays inside
    every range anyway.

    Args:
        model: the canonical float graph; not changed.
        statistics: what ``request`` asked for.
        granularity: of the weights' scales, ``tensor`` or else ``channel``.
        towards: t, from 0 (weights of both layers) to 1 (activation and weights behind it); None
            for the one that suits the granularity.

    Returns:
        First value of each group -> s, float32 (channels,); groups that gain nothing are left out.
    """
    if towards is None:
        towards = TOWARDS["tensor" if granularity == "tensor" else "channel"]
    groups = [_Scaled(group, statistics, towards) for group in pairs(model.graph)]
    layers: dict[ir.Node, Magnitudes] = {}
    for scaled in groups:
        for layer in scaled.group.layers():
            if layer.node not in layers:
                layers[layer.node] = Magnitudes(layer)
    for _ in range(ROUNDS):
        if max((scaled.step(layers) for scaled in groups), default=0.0) < CLOSE:
            break
    found = {scaled.group.key: scaled.factors.astype(np.float32) for scaled in groups}
    return {name: factors for name, factors in found.items() if np.any(factors != 1)}


def reach_request(groups: Iterable[Group]) -> StatisticRequest:
    """Ask how far each channel of some groups reaches."""
    return {
        value.name or "": {
            ABSMAX: partial(ChannelAbsMax, axis=lane.axis, nonnegative=is_nonnegative(value))
        }
        for group in groups
        for value, lane in quantized_values(group)
    }


def pairs(graph: ir.Graph) -> list[Group]:
    """The groups that stand between layers alone."""
    return [
        group
        for group in find_groups(graph)
        if not (group.faults or group.norms) and group.writers and group.readers
    ]


def quantized_values(group: Group) -> list[tuple[ir.Value, Lane]]:
    """The values that something else than an activation function reads: those that get scales."""
    return [
        (value, lane)
        for value, lane in group.values
        if any(not is_op(use.node, *_CLAMPS) for use in value.uses())
    ]


class _Scaled:
    """A group, its factors so far, and how far they may go."""

    def __init__(self, group: Group, statistics: Statistics, towards: float) -> None:
        self.group = group
        self.towards = towards
        self.factors = np.ones(group.channels)
        self.reach = reach_of(group, statistics)
        self.low = np.maximum(self.reach / (self.reach.max(initial=0.0) or 1.0), 1 / MOST)
        self.high = np.full(group.channels, MOST)
        limits = [found.high for node in group.clips if (found := clip_of(node)) is not None]
        self.held = np.zeros(group.channels, bool)
        if group.clips:
            limit = min(limits)
            self.held = self.reach >= limit
            self.low = np.where(self.held, 1.0, np.maximum(self.reach / limit, 1 / MOST))
            self.high[self.held] = 1.0

    def step(self, layers: Mapping[ir.Node, Magnitudes]) -> float:
        """One round for this group; how much its factors changed (largest logarithm)."""
        new = np.clip(self._centred(self.factors * self._ratio(layers)), self.low, self.high)
        step = new / self.factors
        self.factors = new
        for writer in self.group.writers:
            layers[writer.node].scale_outputs(1 / step)
        for reader in self.group.readers:
            layers[reader.layer.node].scale_inputs(step[reader.index])
        return float(np.abs(np.log(step)).max(initial=0.0))

    def _ratio(self, layers: Mapping[ir.Node, Magnitudes]) -> np.ndarray:
        written = np.zeros(self.group.channels)
        for writer in self.group.writers:
            np.maximum(written, layers[writer.node].outputs, out=written)
        read = np.zeros(self.group.channels)
        for reader in self.group.readers:
            np.maximum.at(read, reader.index, layers[reader.layer.node].inputs)
        reach = self.reach / self.factors
        reach /= reach.max(initial=0.0) or 1.0
        written = written ** (1 - self.towards) * reach**self.towards
        heard = (written > SILENT) & (read > SILENT)
        return np.sqrt(np.divide(written, read, out=np.ones_like(read), where=heard))

    def _centred(self, factors: np.ndarray) -> np.ndarray:
        """A factor common to all channels changes no weight's precision: held ones are to be 1."""
        measure = factors[self.held] if self.held.any() else factors
        return np.asarray(factors / np.exp(np.mean(np.log(measure))))


def reach_of(group: Group, statistics: Statistics) -> np.ndarray:
    """The largest magnitude seen in each channel, over all values of a group that get scales."""
    reach = np.zeros(group.channels)
    for value, lane in quantized_values(group):
        statistic = statistics[value.name or ""][ABSMAX]
        assert isinstance(statistic, ChannelAbsMax)
        if statistic.absmax.size:
            np.maximum.at(reach, lane.index, statistic.absmax.astype(np.float64))
    return reach
