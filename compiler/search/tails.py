"""Recipes that ease the tails of detectors: int16 activations for them, or floats."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import onnx_ir as ir

from qcompile.compiler.search.recipe import Recipe
from qcompile.core.notes import Note
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target
from qcompile.passes.plan.patterns.detection_tail import (
    BOXES,
    SCORES,
    Tail,
    all_tails,
    find_tails,
)

_HOW: Final = {"wide": "in int16", "float": "left float"}


@dataclass(frozen=True)
class TailStep:
    """Tails of one kind, to be eased in one step."""

    name: str
    """Of the pattern."""
    tails: tuple[Tail, ...]

    def recipe(self, before: Recipe) -> Recipe:
        """The recipe with these tails wide or float, as each of them says."""
        wide = {**before.chosen.wide_nodes, **dict(self._reasons("wide"))}
        floats = {**dict(self._reasons("float")), **before.chosen.float_nodes}
        return replace(before, chosen=replace(before.chosen, wide_nodes=wide, float_nodes=floats))

    def title(self, plan: QuantPlan) -> str:
        """What was done, for the report: of a wide tail only some nodes have an int16 kernel."""
        names = [name for tail in self.tails for name in tail.nodes]
        remedy = self.tails[0].remedy or "float"
        eased = [n for n in names if plan.is_wide(n) or (remedy, plan.mode(n)) == ("float",) * 2]
        return f"{self.name} {_HOW[remedy]} ({len(eased)} of {len(names)} nodes)"

    def _reasons(self, remedy: str) -> Iterator[tuple[str, str]]:
        return (
            (name, tail.reason)
            for tail in self.tails
            if tail.remedy == remedy
            for name in tail.nodes
        )


def tail_steps(graph: ir.Graph, target: Target) -> list[TailStep]:
    """What to try, in order. Empty for most models.

    Boxes come first, since all that is known of the pattern is about them; the scores beside them
    are a step of their own, which must pay for itself.
    """
    tails = find_tails(graph, target)
    steps = (TailStep(name, tuple(t for t in tails if t.name == name)) for name in (BOXES, SCORES))
    return [step for step in steps if step.tails]


def tail_notes(graph: ir.Graph, target: Target, plan: QuantPlan) -> list[Note]:
    """A warning where boxes come out of 8 bits because the target offers nothing better."""
    ends = {node.name for value in graph.outputs if (node := value.producer()) is not None}
    return [
        Note(
            "warning",
            f"{tail.name} ({len(tail.nodes)} nodes) stays in 8 bits, which costs small objects: "
            f"{target.name} has neither int16 activations for single nodes nor float ends; the "
            "cure is to end the model before the boxes are decoded",
        )
        for tail in all_tails(graph, target)
        if tail.remedy is None
        and tail.name == BOXES
        and any(plan.mode(name) == "integer" for name in tail.nodes if name in ends)
    ]
