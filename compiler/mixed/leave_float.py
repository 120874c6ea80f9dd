"""Changes of a finished plan: some layers float, or all but one; what it holds stays as it is."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from qcompile.core.plan import Chosen, QuantPlan, chosen_nodes

Replan = Callable[[Chosen], QuantPlan]
"""What is chosen for single nodes -> the plan of the same graph without parameters, as it is
decided then (``planning.empty_plan``)."""


def leave_float(plan: QuantPlan, chosen: Mapping[str, str], replan: Replan) -> QuantPlan:
    """The plan with some more nodes float, and everything else as consistent as if planned so.

    Modes are decided anew: what the nodes absorbed, and islands that would pay a quantizer on every
    side, become float as well; values that nothing integer reads or makes lose their entry.
    Entries that stay keep their parameters, integers and corrections; ties between values that only
    a node that is float now held together are cut.

    Args:
        plan: with all parameters set; it is not changed.
        chosen: node name -> why it is left float.
        replan: decides modes and values anew.
    """
    before = chosen_nodes(plan)
    floats = {**before.float_nodes, **chosen}
    wide = {name: why for name, why in before.wide_nodes.items() if name not in chosen}
    fresh = replan(replace(before, float_nodes=floats, wide_nodes=wide))
    values = {
        name: replace(plan.values[name], relation=entry.relation)
        for name, entry in fresh.values.items()
    }
    return replace(
        plan,
        nodes={
            n: replace(node, chosen=node.chosen or n in floats) for n, node in fresh.nodes.items()
        },
        values=values,
        corrections={n: c for n, c in plan.corrections.items() if n in values},
        rounded={n: r for n, r in plan.rounded.items() if n in values},
    )


def only(plan: QuantPlan, nodes: Collection[str]) -> QuantPlan:
    """The plan with nothing but one layer's nodes integer."""
    modes = {
        name: node if name in nodes else replace(node, mode="float", into=None)
        for name, node in plan.nodes.items()
    }
    return replace(plan, nodes=modes)
