"""How hard to try: what each effort makes, in which order, and what it keeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from qcompile.compiler.search.recipe import Candidate, Recipe, Trial
from qcompile.compiler.search.tails import TailStep, tail_steps
from qcompile.compiler.search.workshop import Job, Workshop

TRIED_RANGES: Final = ("minmax", "percentile", "mse")
"""Methods that ``balanced`` tries, where the user names none."""

TRANSFORM_STEPS: Final = {"smooth": "activations smoothed", "equalize": "layers equalized"}
"""Transforms that are tried, each on its own, and what the report calls them."""

FAST_SAMPLES: Final = 16
"""Samples on which ``fast`` tries its correction."""

HELD_OUT: Final = (4, 32)
"""Fewest and most samples that the other efforts score on; a quarter of what there is, between."""

LEAST_GAIN: Final = 0.1
"""A step must buy at least this many dB."""


@dataclass
class Found:
    """The best candidate so far, and how it was come by."""

    best: Candidate
    trials: list[Trial] = field(default_factory=list)

    def try_out(self, step: str, candidate: Candidate) -> bool:
        """Take a candidate if it is better; whether it was."""
        before, after = self.best.score, candidate.score
        kept = after >= before + LEAST_GAIN
        self.trials.append(Trial(step, before, after, kept))
        if kept:
            self.best = candidate
        return kept


def fast(job: Job) -> Found:
    """One plan, with its biases corrected in graph order if that pays; for detectors a second one.

    Where boxes are decoded, 8 bits are known to be too few: the plan that eases that is tried.
    """
    recipe = Recipe(job.scheme.ranges or "minmax")
    shop = Workshop(job, recipe, [recipe.ranges], held_out=0, scored=FAST_SAMPLES)
    steps = tail_steps(job.model.graph, job.target)
    found = _begin(shop.make(recipe, last=not steps))
    _ease_tails(found, shop, steps)
    return found


def balanced(job: Job) -> Found:
    """Each choice in turn, the best so far kept: ranges, rounding."""
    asked = job.scheme.ranges
    methods = TRIED_RANGES if asked is None else (asked,)
    recipe = Recipe(methods[0])
    few, many = HELD_OUT
    held = max(few, min(many, len(job.feeds) // 4)) if len(job.feeds) >= 2 * few else 0
    shop = Workshop(job, recipe, methods, held_out=held, scored=many)
    found = _begin(shop.make(recipe))
    _ease_tails(found, shop, tail_steps(job.model.graph, job.target))
    for name, what in TRANSFORM_STEPS.items():
        candidate = shop.make(replace(found.best.recipe, transforms=(name,)))
        if candidate.plan.transforms:
            found.try_out(what, candidate)
    for method in methods[1:]:
        candidate = shop.make(replace(found.best.recipe, ranges=method))
        found.try_out(f"ranges by {method}", candidate)
    candidate = shop.make(replace(found.best.recipe, rounder="gptq"))
    found.try_out("weights rounded by GPTQ", candidate)
    return found


SEARCHES: Final[Mapping[str, Callable[[Job], Found]]] = {
    "fast": fast,
    "balanced": balanced,
    "max": balanced,
}
"""Effort -> what it does."""


def _ease_tails(found: Found, shop: Workshop, steps: Sequence[TailStep]) -> None:
    for step in steps:
        candidate = shop.make(step.recipe(found.best.recipe))
        found.try_out(step.title(candidate.plan), candidate)


def _begin(first: Candidate) -> Found:
    return Found(first, [] if first.correction is None else [first.correction])
