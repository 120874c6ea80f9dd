"""Channels of what only depthwise layers read are spread over the whole range of the activation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.passes.transform.apply import apply_factors
from qcompile.passes.transform.channels import Group, Reader
from qcompile.passes.transform.equalize import pairs, quantized_values, reach_of, reach_request
from qcompile.passes.transform.lanes import clip_of

NAME: Final = "spread"

LEAST: Final = 2.0**-5
"""The smallest factor: a channel of less than this share of the range gains 5 bits and no more."""


@dataclass(frozen=True)
class Spread(ir.passes.InPlacePass):
    """Scale the channels of an activation up to its range, where that costs no weight anything.

    With one scale a channel, a depthwise layer whose input channels are multiplied keeps every
    integer of its weight, and so does the layer that writes them:

        D f(W x + b) = (D s) f((W / s) x + b / s)      s = the channel's reach / the widest one's

    What is gained is the activation: it has one scale for all channels, and one that reaches a
    tenth of the range uses a tenth of its steps. It is cross-layer equalization (Nagel et al. 2019,
    section 4.1) with the ranges of activations in the place of those of weights.

    Matched are the groups of ``channels.find_groups`` that layers write into and depthwise layers
    alone read from. Left alone: the others, channels that were silent in calibration, and, where
    the group has a Clip, channels that were seen at its limit. Factors are ``LEAST`` or more.

    The float function is kept but for the rounding of the new weights to float32, with a Clip
    wherever no channel reaches further than calibration has seen it.

    Args:
        factors: first value of a group -> s, float32 (channels,); QCompileError(BAD_PLAN) when the
            graph has no such group.
    """

    factors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply what was not applied to this graph before."""
        return ir.passes.PassResult(model, apply_factors(model, NAME, self.factors))


def request(model: ir.Model) -> StatisticRequest:
    """The statistics that ``find`` needs: how far each channel reaches."""
    return reach_request(_groups(model.graph))


def find(
    model: ir.Model, statistics: Statistics, granularity: str | None = None
) -> dict[str, np.ndarray]:
    """Find the factors.

    Args:
        model: the canonical float graph; not changed.
        statistics: what ``request`` asked for.
        granularity: of the weights' scales; with one a weight nothing is free, and nothing found.

    Returns:
        First value of each group -> s, float32 (channels,); groups that gain nothing are left out.
    """
    if granularity == "tensor":
        return {}
    found = {}
    for group in _groups(model.graph):
        reach = reach_of(group, statistics)
        limits = [c.high for node in group.clips if (c := clip_of(node)) is not None]
        most = min(limits) if limits else float(reach.max(initial=0.0))
        if most <= 0:
            continue
        share = np.where(reach > 0, np.minimum(reach / most, 1.0), 1.0)
        factors = np.maximum(share, LEAST).astype(np.float32)
        if np.any(factors != 1):
            found[group.key] = factors
    return found


def _groups(graph: ir.Graph) -> list[Group]:
    return [g for g in pairs(graph) if quantized_values(g) and all(map(_is_depthwise, g.readers))]


def _is_depthwise(reader: Reader) -> bool:
    """Whether each output channel of a reader sees one channel of the group."""
    layer = reader.layer
    return layer.groups > 1 and layer.groups == layer.in_channels
