"""Applies the saturation rule of a target to every planned weight."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.saturation import kind_of
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target
from qcompile.core.units import Unit, output_channel_axis, units
from qcompile.passes.plan.saturation import SafeWeight, keep_from_saturating
from qcompile.passes.plan.weights import IMPORTED, channel_axis


@dataclass(frozen=True)
class SaturationCount:
    """What was done over all layers of a plan."""

    layers_proven: int = 0
    """Layers that cannot saturate with the weights they had."""
    layers_shrunk: int = 0
    channels_shrunk: int = 0
    layers_unsigned: int = 0
    """Layers that were given the target's alternative weight type."""


def make_weights_safe(
    graph: ir.Graph, plan: QuantPlan, target: Target, granularity: str | None = None
) -> SaturationCount:
    """Change scales or type of those weights on which the target's kernel could saturate.

    A weight that several layers read is made safe for each of them in turn; scales only grow. One
    that had a single scale gets one a channel, unless ``granularity`` forbids it, so that only the
    channels at risk lose precision.

    Weights whose integers were chosen by a rounding pass are judged by their nearest integers,
    so this must come before rounding.
    """
    if target.saturation is None:
        return SaturationCount()
    proven = shrunk = channels = unsigned = 0
    for unit, weight in _weights(graph, plan):
        safe = _safe(unit, weight, plan, target, granularity)
        if not safe.at_risk:
            proven += 1
        elif safe.dtype == plan.values[weight.name or ""].dtype:
            shrunk += 1
            channels += safe.at_risk
        else:
            unsigned += 1
        if safe.at_risk:
            entry = plan.values[weight.name or ""]
            split = entry.axis is None and safe.params.scale.ndim > 0
            plan.values[entry.name] = replace(
                entry,
                dtype=safe.dtype,
                params=safe.params,
                granularity="channel" if split else entry.granularity,
                axis=channel_axis(unit, weight, target) if split else entry.axis,
                reason="; ".join(filter(None, (entry.reason, safe.reason))),
            )
    return SaturationCount(proven, shrunk, channels, unsigned)


def _weights(graph: ir.Graph, plan: QuantPlan) -> Iterator[tuple[Unit, ir.Value]]:
    for unit in units(graph, plan):
        if unit.weight is not None and plan.quantized(unit.weight.name) is not None:
            yield unit, unit.weight


def _safe(
    unit: Unit, weight: ir.Value, plan: QuantPlan, target: Target, granularity: str | None
) -> SafeWeight:
    entry = plan.values[weight.name or ""]
    array = g.constant(weight)
    assert array is not None
    assert entry.params is not None
    if array.ndim == 1:
        array = array[:, np.newaxis]  # MatMul by a vector: a matrix of one column
    axis = output_channel_axis(unit.node, array.ndim)
    group = g.attribute_int(unit.node, "group", 1)
    kind = kind_of(unit.node.op_type, array.shape, group)
    return keep_from_saturating(
        array,
        entry.dtype,
        entry.params,
        array.ndim - 1 if axis is None else axis,
        kind,
        target,
        per_channel=granularity != "tensor" and channel_axis(unit, weight, target) is not None,
        keep_scales=entry.rule == IMPORTED,
    )
