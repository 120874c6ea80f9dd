"""Proof that a bias and its sums fit in INT32, and the repair where they would not."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import limits
from qcompile.core.plan import Derived, QuantParams, QuantPlan
from qcompile.core.units import Unit, output_channel_axis, units
from qcompile.passes.plan.weights import rescale
from qcompile.passes.rounding.nearest import weight_integers

_INT32 = 2**31 - 1


def fit_biases(graph: ir.Graph, plan: QuantPlan) -> list[str]:
    """Raise weight scales until every bias fits, and set the parameters of the biases.

    A bias is stored as ``rint(b / (s_x * s_w))`` and added to the sum of products in int32. With
    ``P`` the largest sum of products a channel can reach (from its integers and the activation's
    range), the channel is proven when ``|b| / (s_x * s_w) <= 2**31 - 1 - P``. Where it is not,
    its weight scale is raised to ``|b| / (s_x * (2**31 - 1 - P))``: the weights of such a channel
    are tiny beside its bias, so the coarser grid costs next to nothing.

    Returns:
        One sentence for each layer that was repaired.

    """
    repaired = []
    for unit in units(graph, plan):
        bias, weight = unit.bias, unit.weight
        entry = plan.values.get(bias.name or "") if bias is not None else None
        if entry is None or not isinstance(entry.relation, Derived) or weight is None:
            continue
        sentence = _fit(unit, entry.name, plan)
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


def _derived(plan: QuantPlan, relation: Derived) -> QuantParams:
    x = plan.values[relation.activation].params
    w = plan.values[relation.weight].params
    assert x is not None and w is not None
    scale = (x.scale * w.scale).astype(np.float32)
    return QuantParams(scale, np.zeros(scale.shape, np.int64))


def _fit(unit: Unit, bias_name: str, plan: QuantPlan) -> str | None:
    assert unit.weight is not None and unit.weight.name is not None and unit.bias is not None
    entry = plan.values[unit.weight.name]
    relation = plan.values[bias_name].relation
    bias, weight = g.constant(unit.bias), g.constant(unit.weight)
    assert isinstance(relation, Derived) and bias is not None and weight is not None
    activation = plan.values[relation.activation]
    assert entry.params is not None and activation.params is not None
    integers = weight_integers(weight, entry, plan.rounded.get(entry.name)).astype(np.int64)
    low, high = limits(activation.dtype)
    span = max(high - int(activation.params.zero_point), int(activation.params.zero_point) - low)
    centred = np.abs(integers - _middle(entry.params, entry.axis, integers.ndim))
    reach = _per_channel_sum(centred, unit, weight.ndim) * span
    room = np.maximum(_INT32 - reach, 2**24).astype(np.float64)
    needed = np.abs(bias.astype(np.float64).reshape(-1)) / (float(activation.params.scale) * room)
    if entry.params.scale.ndim == 0:
        needed = needed.max(initial=0.0)
    if np.all(entry.params.scale >= needed):
        return None
    # One part in 2**20 above the bound, so that float32 rounding of the scales cannot undercut it.
    raised = np.maximum(entry.params.scale, (needed * (1 + 2.0**-20)).astype(np.float32))
    count = int(np.count_nonzero(raised > entry.params.scale))
    plan.values[entry.name] = rescale(entry, raised, "raised so that the bias fits in INT32")
    plan.rounded.pop(entry.name, None)
    return (
        f"{unit.node.name}: the scale of {count} weight channel(s) was raised "
        "so that the bias fits in INT32"
    )


def _middle(params: QuantParams, axis: int | None, rank: int) -> np.ndarray:
    if axis is None or params.zero_point.ndim == 0:
        return params.zero_point
    shape = [1] * rank
    shape[axis] = -1
    return params.zero_point.reshape(shape)


def _per_channel_sum(magnitudes: np.ndarray, unit: Unit, rank: int) -> np.ndarray:
    axis = output_channel_axis(unit.node, rank)
    if axis is None:
        return np.asarray(magnitudes.sum(axis=-2).max(keepdims=True))
    return np.asarray(magnitudes.sum(axis=tuple(i for i in range(rank) if i != axis)))
