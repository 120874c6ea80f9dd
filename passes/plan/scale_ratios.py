"""Keeps the scales around every op inside the ratios that its integer kernel takes."""

from dataclasses import replace
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.plan import Fixed, QuantParams, QuantPlan, ValuePlan, Widened
from qcompile.core.target import Target
from qcompile.core.units import Unit, rule_for, units
from qcompile.passes.plan.shared_groups import resolve_shared, root

_ROUNDS: Final = 8
"""A raised scale may take another op out of its ratios; far fewer rounds than this settle it."""
_INSIDE: Final = 1 + 2.0**-10
"""How far inside a bound a scale is put, so that no rounding leads out again."""


def fit_scale_ratios(graph: ir.Graph, plan: QuantPlan, target: Target) -> list[str]:
    """Raise activation scales until every integer op is inside the ratios of its rule.

    With ``s_i`` the scales of the inputs (of a weight the largest) and ``s_y`` the output's:

    1. ``s_1 * s_2 / s_y``, or the largest ``s_i / s_y``, at ``high`` or above: ``s_y`` is raised.
       The output is then tiny beside what it is summed or cancelled from.
    2. The least ``s_i / s_y`` under ``low``: that ``s_i`` is raised. The input is then less than a
       step of the output and vanishes in it anyway.

    A zero point stays, so a raised range holds the old one. A value takes its whole group with it.
    Parameters that a kernel sets, and products under ``low``, stay: the op then runs on a slower
    kernel, or is refused by the back end.

    Returns:
        One sentence for each op for whose sake a scale was raised.
    """
    raised: dict[str, str] = {}
    for _ in range(_ROUNDS):
        changes = [change for unit in units(graph, plan) for change in _fit(unit, plan, target)]
        if not changes:
            break
        for name, sentence in changes:
            raised.setdefault(name, sentence)
    return list(raised.values())


def _fit(unit: Unit, plan: QuantPlan, target: Target) -> list[tuple[str, str]]:
    """Raise what one unit asks for; the value's name and a sentence for each."""
    ratio = rule_for(unit.node, plan, target).scale_ratio
    output = plan.quantized(unit.output.name)
    inputs = _inputs(unit, plan)
    if ratio is None or output is None or not inputs or plan.mode(unit.node.name) != "integer":
        return []
    scales = [_scale(entry) for entry in inputs]
    largest = float(np.prod(scales)) if ratio.of == "product" else max(scales)
    found = []
    if largest >= _scale(output) * ratio.high:
        found += _raise(output, largest / ratio.high * _INSIDE, unit, plan)
    if ratio.of == "each":
        least = _scale(plan.values[output.name]) * ratio.low
        for entry, scale in zip(inputs, scales, strict=True):
            if scale < least:
                found += _raise(entry, least * _INSIDE, unit, plan)
    return found


def _inputs(unit: Unit, plan: QuantPlan) -> list[ValuePlan]:
    """Entries of what the node computes with; a bias does not count."""
    values = [value for value in unit.node.inputs if value is not None]
    entries = [plan.quantized(plan.seen_by(unit.node.name, value.name)) for value in values]
    return [entry for entry in entries if entry is not None and entry.role != "bias"]


def _scale(entry: ValuePlan) -> float:
    assert entry.params is not None
    return float(entry.params.scale.max())


def _raise(entry: ValuePlan, scale: float, unit: Unit, plan: QuantPlan) -> list[tuple[str, str]]:
    name = root(entry.name, plan)
    leader = plan.values[name]
    if (
        isinstance(leader.relation, Fixed | Widened)
        or leader.role != "activation"
        or leader.params is None
    ):
        return []
    old = _scale(leader)
    made = QuantParams(np.asarray(scale, np.float32), leader.params.zero_point)
    op = unit.node.op_type
    reason = f"scale raised from {old:.3g} to {scale:.3g}: the integer {op} takes no other ratio"
    plan.values[name] = replace(leader, params=made, reason=reason)
    resolve_shared(plan)
    return [(name, f"{name}: {reason} (node {unit.node.name})")]
