"""Proof that a bias and its sums fit in the integers that hold them, and the repair if not."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import along_axis, limits
from qcompile.core.plan import Derived, QuantParams, QuantPlan, ValuePlan
from qcompile.core.units import Unit, output_channel_axis, units
from qcompile.passes.plan.weights import IMPORTED, rescale
from qcompile.passes.rounding.nearest import weight_integers

_INT32 = 2**31 - 1
_GIVEN = frozenset({IMPORTED, "shared", "fixed"})
"""Rules of activations whose scale a quantized model had."""


def fit_biases(graph: ir.Graph, plan: QuantPlan, sum_bits: int = 32) -> list[str]:
    """Raise weight scales until every bias fits, and set the parameters of the biases.

    A bias is stored as ``rint(b / (s_x * s_w))`` in int32 and added to the sum of products. With
    ``S`` the largest integer of ``sum_bits`` bits and ``P`` the largest sum of products a channel
    can reach (from its integers and the activation's range), the channel is proven when
    ``2 |b| / (s_x * s_w) <= min(S - P, 2**31 - 1)``: twice, so that a correction as large as the
    bias itself still fits. Where it is not, its weight scale is raised until it is: the weights of
    such a channel are tiny beside its bias, so the coarser grid costs next to nothing. Sums that
    reach beyond half of S by themselves (with 32 bits and activations of 8, tens of thousands of
    large weights a channel) are halved in the same way.

    Where weights and bias are the integers that the model came with, they stay: what they are for
    adds them so already, without a correction.

    Args:
        graph: the canonical float graph.
        plan: with parameters of activations and weights.
        sum_bits: ``Target.sum_bits``.

    Returns:
        One sentence for each layer that was repaired.

    """
    repaired = []
    for unit in units(graph, plan):
        bias, weight = unit.bias, unit.weight
        entry = plan.values.get(bias.name or "") if bias is not None else None
        if entry is None or not isinstance(entry.relation, Derived) or weight is None:
            continue
        sentence = _fit(unit, entry.name, plan, 2 ** (sum_bits - 1) - 1)
        if sentence:
            repaired.append(sentence)
    for name, entry in plan.values.items():
        if isinstance(entry.relation, Derived):
            plan.values[name] = replace(
                entry.with_params(_derived(plan, entry.relation)),
                axis=0 if plan.values[entry.relation.weight].granularity == "channel" else None,
                granularity=plan.values[entry.relation.weight].granularity,
            )
    return repaired


def is_proven(unit: Unit, plan: QuantPlan, sum_bits: int = 32) -> bool:
    """Whether the bias and the sums of a unit fit with the integers that its weight has now.

    True where there is no bias of the plan's to prove, as for ``fit_biases``.
    """
    bias, weight = unit.bias, unit.weight
    entry = plan.values.get(bias.name or "") if bias is not None else None
    if entry is None or not isinstance(entry.relation, Derived) or weight is None:
        return True
    trial = replace(plan, values=dict(plan.values), rounded=dict(plan.rounded))
    return _fit(unit, entry.name, trial, 2 ** (sum_bits - 1) - 1) is None


def _derived(plan: QuantPlan, relation: Derived) -> QuantParams:
    x = plan.values[relation.activation].params
    w = plan.values[relation.weight].params
    assert x is not None and w is not None
    scale = (x.scale * w.scale).astype(np.float32)
    return QuantParams(scale, np.zeros(scale.shape, np.int64))


def _fit(unit: Unit, bias_name: str, plan: QuantPlan, largest: int) -> str | None:
    assert unit.weight is not None and unit.weight.name is not None
    entry = plan.values[unit.weight.name]
    relation = plan.values[bias_name].relation
    bias, weight = g.constant(unit.bias), g.constant(unit.weight)
    assert isinstance(relation, Derived) and bias is not None and weight is not None
    activation = plan.values[relation.activation].params
    assert entry.params is not None and activation is not None
    reads = plan.values[relation.activation].rule
    if reads in _GIVEN and _came_quantized(unit.bias, entry) and largest >= _INT32:
        return None
    low, high = limits(plan.values[relation.activation].dtype)
    span = max(high - int(activation.zero_point), int(activation.zero_point) - low)
    ratio = np.abs(bias.astype(np.float64).reshape(-1)) / float(activation.scale)
    depth = weight.size // max(ratio.size, 1)
    most = depth * _magnitude(entry) * span
    if np.all(entry.params.scale >= _needed(entry.params.scale, np.asarray(most), ratio, largest)):
        return None  # whatever the integers are
    raised, rounded, least = entry, plan.rounded.get(entry.name), 1 + 2.0**-20
    while True:
        assert raised.params is not None
        reach = _reach(weight, raised, rounded, unit) * span
        scale = raised.params.scale
        needed = _needed(scale, reach, ratio, largest)
        if np.all(scale >= needed):
            break
        # A little above the bound, so that float32 rounding of the scales cannot undercut it; more
        # where rounding of the weights did.
        grown = np.where(scale < needed, np.maximum(needed, scale) * least, scale)
        raised, rounded, least = _rescaled(raised, grown), None, 1 + 2.0**-6
    if raised is entry:
        return None
    assert raised.params is not None
    count = int(np.count_nonzero(raised.params.scale > entry.params.scale))
    plan.values[entry.name] = rescale(
        entry, raised.params.scale, "raised so that the bias fits in INT32"
    )
    plan.rounded.pop(entry.name, None)
    return (
        f"{unit.node.name}: the scale of {count} weight channel(s) was raised "
        "so that the bias fits in INT32"
    )


def _came_quantized(bias: ir.Value | None, weight: ValuePlan) -> bool:
    stored = "" if bias is None else bias.metadata_props.get("qcompile.grid_type", "")
    return weight.rule == IMPORTED and stored == "INT32"


def _needed(scale: np.ndarray, reach: np.ndarray, ratio: np.ndarray, largest: int) -> np.ndarray:
    """Scales from which on every channel is proven, float64, of the shape of ``scale``.

    Args:
        scale: of the weight.
        reach: largest sum of products of each channel, at these scales.
        ratio: ``|b| / s_x`` of each channel.
        largest: the sum that still fits.
    """
    half = largest // 2
    for_bias = 2 * ratio / np.minimum(largest - np.minimum(reach, half), _INT32)
    for_sums = np.where(reach > half, scale.astype(np.float64) * (reach / half), 0.0)
    needed = np.maximum(for_bias, for_sums)
    return needed if scale.ndim else np.asarray(needed.max(initial=0.0))


def _rescaled(entry: ValuePlan, scale: np.ndarray) -> ValuePlan:
    assert entry.params is not None
    return entry.with_params(QuantParams(scale.astype(np.float32), entry.params.zero_point))


def _magnitude(entry: ValuePlan) -> int:
    """The largest distance of an integer of the weight's type from its zero point."""
    assert entry.params is not None
    low, high = limits(entry.dtype)
    zero = entry.params.zero_point
    return int(max(high - zero.min(initial=high), zero.max(initial=low) - low))


def _reach(
    weight: np.ndarray, entry: ValuePlan, rounded: np.ndarray | None, unit: Unit
) -> np.ndarray:
    """Sum of the magnitudes of each channel's integers around the zero point, int64."""
    assert entry.params is not None
    centred = weight_integers(weight, entry, rounded).astype(np.int32)
    centred -= along_axis(entry.params.zero_point, entry.axis, weight.ndim).astype(np.int32)
    axis = output_channel_axis(unit.node, weight.ndim)
    others = tuple(i for i in range(weight.ndim) if i != axis)
    return np.asarray(np.abs(centred, out=centred).sum(axis=others, dtype=np.int64))
