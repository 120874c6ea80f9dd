"""How hard to try: what each effort makes, in which order, and what it keeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from qcompile.compiler.scoring import BEST_DB
from qcompile.compiler.search import patterns
from qcompile.compiler.search.range_search import search_ranges
from qcompile.compiler.search.recipe import Candidate, Recipe, Trial
from qcompile.compiler.search.regions import dynamic_layers
from qcompile.compiler.search.tails import TailStep, tail_steps
from qcompile.compiler.search.workshop import Job, Workshop
from qcompile.core.budget import Budget
from qcompile.core.plan import Chosen
from qcompile.passes.rounding.graph_order import Rounder

TRIED_RANGES: Final = ("minmax", "percentile", "mse")
"""Methods that ``balanced`` tries, where the user names none."""

TRANSFORM_STEPS: Final = {
    "smooth": "activations smoothed",
    "divide": "outlying channels divided before MatMuls",
    "spread": "channels before depthwise layers spread",
    "equalize": "layers equalized",
}
"""Transforms that are tried, each on top of those that were kept, and what reports call them."""

FAST_SAMPLES: Final = 16
"""Samples on which ``fast`` tries its correction."""

HELD_OUT: Final = (4, 64)
"""Fewest and most samples that the other efforts score on; a quarter of what there is, between."""

FEW_SAMPLES: Final = 64
"""Where ranges come from fewer samples than this, the held-out ones take part in the end. (Of 11
pictures for a detector of faces 4 are held out: ranges of 7 cost its boxes 4 dB.)"""

LEAST_GAIN: Final = 0.1
"""A step must buy at least this many dB."""

TRANSFORM_GAIN: Final = {"spread": LEAST_GAIN}
"""What a transform must buy where it is not ``EQUAL_GAIN``. (Spreading buys MobileNet v1 0.1 to 0.6
dB on held-out samples of each of three folds.)"""

EQUAL_GAIN: Final = 0.5
"""A transform must buy this many: it makes every channel fill the range, so that samples louder
than those that were seen are clipped in all of them. (From one fold of calibration samples to the
next, what equalization buys differs by 1 dB and more.)"""

ROUNDING_STEPS: Final = 1.5
"""Steps that rounding takes as long as."""

ROUNDING_SHARE: Final = 0.5
"""Part of the time that is left which reconstruction may take, where time is limited."""


def held_out(count: int) -> int:
    """How many of so many samples are held out; none where too few would be left."""
    few, many = HELD_OUT
    return max(few, min(many, count // 4)) if count >= 2 * few else 0


@dataclass
class Found:
    """The best candidate so far, and how it was come by."""

    best: Candidate
    shop: Workshop
    """Made it, and can make it again."""
    trials: list[Trial] = field(default_factory=list)
    slowest: float = 0.0
    """Seconds that the slowest candidate took."""
    uncorrected: float = 0.0
    """dB that correcting the best one may buy, where it is bare: what it bought the last one."""

    def has_time(self, steps: float = 1.0) -> bool:
        """Whether so many more steps, each as slow as the slowest one, end in time."""
        return self.shop.job.budget.left() > steps * max(self.slowest, self.best.seconds)

    def strip(self) -> None:
        """Compare with the best one before its biases were corrected, if candidates are so."""
        bare = self.shop.bare(self.best)
        if bare is not self.best:
            self.uncorrected = max(self.best.score - bare.score, 0.0)
            self.best = bare

    def try_out(self, step: str, candidate: Candidate, least: float = LEAST_GAIN) -> bool:
        """Take a candidate if it buys at least so many dB; whether it did."""
        before, after = self.best, candidate
        self.slowest = max(self.slowest, after.seconds)
        kept = after.score >= before.score + least
        self.trials.append(
            Trial(
                step,
                before.score,
                after.score,
                kept,
                before.agreement,
                after.agreement,
                after.seconds,
            )
        )
        if kept:
            self.best = candidate
        return kept


def fast(job: Job) -> Found:
    """One plan, with its biases corrected in graph order if that pays; for detectors a second one.

    Where boxes are decoded, 8 bits are known to be too few: the plan that eases that is tried.
    """
    recipe = Recipe(job.scheme.ranges or "minmax")
    shop = Workshop(
        job, recipe, [recipe.ranges], held_out=0, scored=FAST_SAMPLES, kept=FAST_SAMPLES
    )
    steps = tail_steps(job.model.graph, job.target)
    found = _begin(shop.make(recipe, last=not steps), shop)
    _ease_tails(found, shop, steps)
    return found


def balanced(job: Job) -> Found:
    """Each choice in turn, the best so far kept.

    Regions, tails, transforms, ranges, parts known to lose in 8 bits, rounding. With a time budget
    no step is begun that would not end in time.
    """
    found, shop = _choose(job, patterns.BALANCED)
    _round(found, shop, "gptq", "weights rounded by GPTQ", Budget())
    return _settled(found, shop)


def maximum(job: Job) -> Found:
    """What ``balanced`` does, then reconstruction of layers and a search of single ranges.

    With a time budget each of them stops when its share is spent, and no step is begun that would
    not end in time.
    """
    budget = job.budget
    found, shop = _choose(job, patterns.MAX)
    _round(found, shop, "gptq", "weights rounded by GPTQ", Budget())
    if not found.has_time():
        return _settled(found, shop)
    _round(found, shop, "reconstruct", "layers reconstructed", budget.share(ROUNDING_SHARE))
    if found.has_time():
        factors = search_ranges(shop, found.best, budget.share(ROUNDING_SHARE))
        if factors:
            candidate = shop.make(replace(found.best.recipe, factors=factors), budget)
            found.try_out(f"single ranges searched ({len(factors)} changed)", candidate)
    return _settled(found, shop)


SEARCHES: Final[Mapping[str, Callable[[Job], Found]]] = {
    "fast": fast,
    "balanced": balanced,
    "max": maximum,
}
"""Effort -> what it does."""


def _choose(job: Job, known: Sequence[str]) -> tuple[Found, Workshop]:
    """All that is chosen before weights are rounded; ``known``: patterns that may stay float.

    Encodings that were given speak of the graph as it is: nothing transforms it then.
    """
    asked = job.scheme.ranges
    methods = TRIED_RANGES if asked is None else (asked,)
    recipe = Recipe(methods[0])
    held = held_out(len(job.feeds))
    transforms = TRANSFORM_STEPS if job.scheme.encodings is None else {}
    layers = Chosen()
    if job.scheme.auto:
        layers = Chosen(dynamic_nodes=dynamic_layers(job.model.graph, job.target))
    shop = Workshop(
        job,
        recipe,
        methods,
        held_out=held,
        scored=HELD_OUT[1],
        transforms=tuple(transforms),
        trusting=True,
        foreseen=[layers] if layers.dynamic_nodes else [],
    )
    found = _begin(shop.make(recipe), shop)
    if found.best.score >= BEST_DB:  # nothing that could be tried is integer, or nothing is lost
        return found, shop
    if layers.dynamic_nodes and found.has_time():
        _try_dynamic(found, shop, layers)
    _ease_tails(found, shop, tail_steps(job.model.graph, job.target))
    for name, what in transforms.items():
        if not found.has_time():
            break
        before = found.best.recipe
        recipe = replace(before, transforms=(*before.transforms, name))
        if name in shop.transforms_of(recipe):
            found.strip()
            candidate = shop.make(recipe, trial=True)
            found.try_out(what, candidate, TRANSFORM_GAIN.get(name, EQUAL_GAIN))
    for method in methods[1:]:
        if not found.has_time():
            break
        candidate = shop.make(replace(found.best.recipe, ranges=method), like=found.best)
        found.try_out(f"ranges by {method}", candidate)
    _ease_patterns(found, shop, patterns.pattern_steps(job.model.graph, job.target, known))
    if held and len(job.feeds) - held < FEW_SAMPLES and found.has_time():
        shop.see_all(found.best.recipe.ranges)
        candidate = shop.make(found.best.recipe, trial=found.best.is_bare)
        found.try_out("ranges of all samples", candidate)
    return found, shop


def _try_dynamic(found: Found, shop: Workshop, layers: Chosen) -> None:
    candidate = shop.make(replace(found.best.recipe, chosen=layers))
    found.try_out(f"{len(layers.dynamic_nodes)} layers find their scales as they run", candidate)


def _ease_tails(found: Found, shop: Workshop, steps: Sequence[TailStep]) -> None:
    for step in steps:
        if not found.has_time():
            break
        candidate = shop.make(step.recipe(found.best.recipe))
        found.try_out(step.title(candidate.plan), candidate)


def _ease_patterns(found: Found, shop: Workshop, steps: Sequence[patterns.PatternStep]) -> None:
    for step in steps:
        if step.eases(found.best.plan) and found.has_time():
            found.best = shop.corrected(found.best)  # a float layer has no bias to correct
            like = found.best if step.keeps_layers else None
            candidate = shop.make(step.recipe(found.best.recipe), like=like)
            found.try_out(step.title(), candidate, step.least_gain)


def _round(found: Found, shop: Workshop, rounder: Rounder, what: str, budget: Budget) -> None:
    if found.best.score >= BEST_DB or not found.has_time(ROUNDING_STEPS):
        return
    recipe = replace(found.best.recipe, rounder=rounder)
    least = LEAST_GAIN + (found.uncorrected if found.best.is_bare else 0.0)
    found.try_out(what, shop.make(recipe, budget), least)


def _settled(found: Found, shop: Workshop) -> Found:
    """With corrections of its own for the best candidate, which are tried if they may not pay."""
    before = found.best
    found.best = shop.settled(before)
    tried = found.best.correction
    if tried is None or tried is before.correction:
        return found
    if shop.compares_bare or not tried.kept:
        found.trials.append(replace(tried, step="bias correction of the outcome"))
    return found


def _begin(first: Candidate, shop: Workshop) -> Found:
    return Found(first, shop, [] if first.correction is None else [first.correction])
