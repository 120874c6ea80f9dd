"""The chosen plan made anew from its recipe: with float layers, or with int16 in their place."""

from collections.abc import Collection, Iterator
from dataclasses import replace

import onnx_ir as ir

from qcompile.compiler.mixed.groups import Group
from qcompile.compiler.search.recipe import Candidate
from qcompile.compiler.search.workshop import Remake
from qcompile.core.budget import Budget
from qcompile.core.plan import QuantPlan, chosen_nodes
from qcompile.core.target import Target


def made_anew(remake: Remake, plan: QuantPlan, budget: Budget) -> Candidate:
    """The plan with ranges, weights and biases chosen for the nodes that are integer now.

    What ``leave_float`` keeps was chosen for the plan as it was before: what a Concat brought onto
    one scale keeps that scale after the Concat has become float.
    """
    return _like(remake(chosen_nodes(plan), budget), plan)


def made_wide(
    remake: Remake,
    graph: ir.Graph,
    target: Target,
    before: QuantPlan,
    layers: Collection[Group],
    budget: Budget,
) -> Candidate | None:
    """The plan with int16 activations in some layers and all that follow them, instead of floats.

    Nothing leads from int16 back to 8 bits, so that what follows is wide as well.

    Args:
        remake: makes plans anew.
        graph: that the plan is laid on.
        target: says what can be wide.
        before: the plan in which none of the layers is float.
        layers: that were to be left float.
        budget: time for it.

    Returns:
        None where the target has no int16, or not for all of these layers.
    """
    if target.wide is None or not layers:
        return None
    names = {name for layer in layers for name in layer.nodes}
    chosen = chosen_nodes(before)
    reasons = dict.fromkeys(_downstream(graph, names), "in int16 to keep the budget")
    wanted = {**reasons, **chosen.wide_nodes}
    empty = remake.planned(replace(chosen, wide_nodes=wanted))
    if not all(empty.is_wide(layer.name) for layer in layers):
        return None
    return _like(remake(replace(chosen, wide_nodes=wanted), budget), before)


def _like(made: Candidate, plan: QuantPlan) -> Candidate:
    made.plan.from_noise = plan.from_noise
    return made


def _downstream(graph: ir.Graph, names: Collection[str]) -> Iterator[str]:
    """The nodes of these names and all that read what they make, in graph order."""
    reached: set[ir.Value] = set()
    for node in graph:
        if node.name in names or reached.intersection(v for v in node.inputs if v is not None):
            reached.update(node.outputs)
            yield node.name or ""
