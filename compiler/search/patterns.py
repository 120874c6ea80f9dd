"""Recipes that leave parts of a network float which are known to lose in 8 bits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import onnx_ir as ir

from qcompile.compiler.search.recipe import Recipe
from qcompile.core.macs import macs
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target
from qcompile.passes.plan.patterns import (
    attention_softmax,
    first_layer,
    gated_mlp,
    last_layer,
    scores,
    squeeze_excite,
    stem,
)
from qcompile.passes.plan.patterns.pattern import Pattern
from qcompile.passes.plan.patterns.table import PATTERNS

BALANCED: Final = (
    squeeze_excite.NAME,
    attention_softmax.NAME,
    gated_mlp.NAME,
    scores.NAME,
    stem.NAME,
    stem.LONGER,
)
"""What ``balanced`` tries: few multiply-adds, if any, become float there. Scores come before stems,
whose gain their rounding would hide."""
MAX: Final = (*BALANCED, stem.LONGEST, first_layer.NAME, last_layer.NAME)

STEM_GAINS: Final = {stem.NAME: 0.1, stem.LONGER: 0.5, stem.LONGEST: 0.5}
"""dB that stems must buy. They are tried where a target says that they cost no time: to the first
depthwise layer they take less of it than integers do, to the second one a little more than that,
and to the third one a twentieth more than integers."""

SCORES_GAIN: Final = 0.1
"""dB that float scores of classes must buy; they cost no time."""

LEAST_GAIN: Final = 1.0
"""dB that any other step must buy, since it costs time in every run of the artefact."""

SHARE_A_DB: Final = 0.02
"""Share of a model's multiply-adds that may become float for each dB: float takes about four times
as long as integers do."""


@dataclass(frozen=True)
class PatternStep:
    """All places of one pattern, to be left float in one step."""

    name: str
    places: tuple[Pattern, ...]
    macs_share: float = 0.0
    """Share of the model's multiply-adds in the nodes that would be float."""

    @property
    def least_gain(self) -> float:
        """How many dB it must buy."""
        if self.name in STEM_GAINS:
            return STEM_GAINS[self.name]
        if self.name == scores.NAME:
            return SCORES_GAIN
        return max(LEAST_GAIN, self.macs_share / SHARE_A_DB)

    def recipe(self, before: Recipe) -> Recipe:
        """The recipe with these nodes float; what stands there already keeps its reason."""
        floats = {name: place.reason for place in self.places for name in place.eased}
        chosen = replace(before.chosen, float_nodes={**floats, **before.chosen.float_nodes})
        return replace(before, chosen=chosen)

    def eases(self, plan: QuantPlan) -> bool:
        """Whether any of the nodes has static scales in a plan."""
        return any(plan.is_integer(name) for place in self.places for name in place.eased)

    @property
    def keeps_layers(self) -> bool:
        """Whether the same multiply-adds are integer without it, and need no new corrections."""
        return self.name == scores.NAME

    def title(self) -> str:
        """What was done, for the report."""
        count = f" ({len(self.places)} of them)" if len(self.places) > 1 else ""
        return f"{self.name} left float{count}"


def pattern_steps(graph: ir.Graph, target: Target, names: Sequence[str]) -> list[PatternStep]:
    """What to try, in order; nothing where a target is for integers alone.

    Args:
        graph: the canonical graph.
        target: the rule is that of detection tails: floats are a remedy where its ends are floats.
        names: of ``PATTERNS``.
    """
    if target.ends != "float":
        return []
    work = {node.name or "": macs(node) for node in graph}
    tried = [name for name in names if target.float_stem or name not in STEM_GAINS]
    found = {name: tuple(PATTERNS[name](graph)) for name in tried}
    return [
        PatternStep(name, places, _share(places, work)) for name, places in found.items() if places
    ]


def _share(places: Sequence[Pattern], work: Mapping[str, int]) -> float:
    eased = {name for place in places for name in place.eased}
    return sum(work[name] for name in eased) / max(sum(work.values()), 1)
