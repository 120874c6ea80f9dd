"""Turns recipes into finished plans: calibrates once, plans, rounds, corrects, scores."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler.calibration.gather import gather
from qcompile.compiler.options import Scheme
from qcompile.compiler.planning import complete, correction_samples, empty_plan, prove_safe
from qcompile.compiler.progress import Progress
from qcompile.compiler.samples import Remembered
from qcompile.compiler.scoring import Score, Scorer
from qcompile.compiler.search.ground import Ground, join, without
from qcompile.compiler.search.recipe import Candidate, Recipe, Trial
from qcompile.core.budget import Budget
from qcompile.core.executor import Executor, Feeds
from qcompile.core.parallel import ordered_map
from qcompile.core.plan import Chosen, QuantPlan
from qcompile.core.statistics.base import StatisticRequest
from qcompile.core.target import Target
from qcompile.passes.plan.activations import range_request
from qcompile.passes.plan.range_factors import scale_ranges
from qcompile.passes.plan.ranges.table import RANGE_METHODS
from qcompile.passes.plan.tables import KnownTables
from qcompile.passes.rounding.bias_correction import mean_request
from qcompile.passes.rounding.graph_order import round_and_correct
from qcompile.passes.transform.table import TRANSFORMS, transformed

FEWEST_APART: Final = 4
"""With fewer samples that the correction has not seen, scoring takes those that it has."""

SURE_GAIN: Final = 1.0
"""Where the first candidate's correction bought as many dB, the others' are not tried by
themselves: a candidate that one harms loses against the best so far."""

SMALL_GAIN: Final = 0.5
"""Where it changed the score by fewer dB, which is what a transform must buy, candidates that keep
the same layers integer are compared before correction."""


@dataclass(frozen=True)
class Job:
    """What all candidates of a search have in common."""

    model: ir.Model
    """The canonical float graph."""
    target: Target
    scheme: Scheme
    executor: Executor
    feeds: Sequence[Feeds]
    """Calibration samples, in an order that is as good as random."""
    progress: Progress
    float_nodes: Mapping[str, str] = field(default_factory=dict)
    """Node name -> why it must stay float."""
    budget: Budget = field(default_factory=Budget)
    """How long the whole search may take."""


class Workshop:
    """Makes candidates. What several of them need is gathered once.

    Ranges are gathered over all samples that are not held out: a plan whose ranges hold what it is
    judged on shows nothing of what clipping will cost. (An equalized autoencoder gained 0.6 dB so,
    and lost 8 dB on other sounds: every channel of it fills the range.) The first samples are what
    rounding and correction see, as many as memory allows; candidates are scored on others.

    Args:
        job: the model, the target and the samples.
        recipe: the first one.
        methods: range methods that recipes may name; their statistics are gathered in one run.
        held_out: samples that neither ranges nor rounding nor correction may see.
        scored: the most samples that candidates are scored on.
        transforms: what recipes will try, in order; what they need is gathered in the same run.
        kept: the most samples that are kept once read; None for all that are read again.
        trusting: where the first candidate's correction pays, those of the others are not tried by
            themselves; ``settled`` is to be called in the end.
        foreseen: what recipes will choose for single nodes; what their plans need is gathered in
            the same run.
    """

    def __init__(
        self,
        job: Job,
        recipe: Recipe,
        methods: Sequence[str],
        *,
        held_out: int,
        scored: int,
        transforms: Sequence[str] = (),
        kept: int | None = None,
        trusting: bool = False,
        foreseen: Sequence[Chosen] = (),
    ) -> None:
        self.job = job
        self._foreseen = tuple(foreseen)
        self._fingerprint: str | None = None
        self._tables = KnownTables()
        self._methods = tuple(methods)
        self._transforms = tuple(transforms)
        self._scored_on = scored
        self._first = self._empty(recipe)
        seen = len(job.feeds) - held_out
        self.count = correction_samples(job.model, self._first, seen)
        self._feeds = Remembered(job.feeds, min(self.count, kept or self.count), seen)
        self._grounds: dict[tuple[str, ...], Ground] = {(): Ground(job.model, {}, {})}
        self._correction_pays: bool | None = None
        self._is_sure, self._is_small, self._trusting = False, False, trusting

    @cached_property
    def scorer(self) -> Scorer:
        """Scores candidates on samples that the correction has not seen, if there are enough."""
        seen, total = len(self._feeds), len(self.job.feeds)
        feeds: list[Feeds] = [self.job.feeds[i] for i in range(seen, total)[: self._scored_on]]
        if not feeds:
            is_apart = seen - self.count >= FEWEST_APART
            rest = range(self.count, seen) if is_apart else range(self.count)
            feeds = [self._feeds[i] for i in rest[: self._scored_on]]
        return self._scorer_of(feeds)

    @cached_property
    def _first_scorer(self) -> Scorer:
        """Scores on samples that the plans were made from."""
        feeds = [self._feeds[i] for i in range(min(self.count, self._scored_on))]
        return self._scorer_of(feeds)

    def _scorer_of(self, feeds: Sequence[Feeds]) -> Scorer:
        job = self.job
        rows = job.target.dynamic_scales == "row"
        return Scorer(job.model, job.executor, feeds, job.scheme.threads, rows=rows)

    def see_all(self, ranges: str) -> None:
        """Let the ranges of the candidates to come, by this method, hold the held-out samples too.

        What they are scored on does not change, and is no longer clipped unseen: choices that
        depend on the slack of ranges are made before.
        """
        assert self.scorer.feeds
        self._feeds = Remembered(self.job.feeds, self.count)
        self._methods, self._transforms, self._foreseen = (ranges,), (), ()
        self._grounds = {names: replace(g, statistics={}) for names, g in self._grounds.items()}

    def transforms_of(self, recipe: Recipe) -> dict[str, dict[str, np.ndarray]]:
        """What the transforms of a recipe found to do, as ``plan.transforms``; no plan is made."""
        return self._ground(recipe.transforms).transforms

    def score_on_first(self, made: Candidate, factors: Mapping[str, float]) -> float:
        """Score in dB of a candidate with other factors of its ranges, all else as it is.

        Weights are neither chosen nor rounded again, biases not corrected again. It is scored on
        samples that the plan was made from, so that the held-out ones can judge the outcome.
        """
        before = made.recipe.factors
        relative = {name: factors[name] / before.get(name, 1.0) for name in factors}
        plan = replace(
            made.plan, values=dict(made.plan.values), rounded=dict(made.plan.rounded)
        )  # scales that must grow for a bias take the rounded integers away
        scale_ranges(plan, {name: factor for name, factor in relative.items() if factor != 1.0})
        prove_safe(made.model, plan, self.job.target, self.job.scheme)
        return self._first_scorer.score(plan, made.model)

    def make(
        self,
        recipe: Recipe,
        budget: Budget | None = None,
        *,
        like: Candidate | None = None,
        trial: bool = False,
        last: bool = False,
    ) -> Candidate:
        """Plan by a recipe, round, correct the biases and score.

        A correction that makes the outputs worse is left out. Transforms that find nothing to do
        leave the graph as it is.

        Args:
            recipe: what to do.
            budget: time for a rounder that can use any amount of it.
            like: a candidate that differs only in its ranges. Its weights are rounded alike, so its
                corrections serve, near enough for a trial, and no sample is run for them.
            trial: only compared with others: where biases need not be corrected for that
                (``compares_bare``), they are not, and weights keep the nearest integers.
            last: no other candidate will be made, and the samples may go.
        """
        job, progress = self.job, self.job.progress
        start = time.perf_counter()
        ground = self._ground(recipe.transforms)
        plan = self._empty(recipe, ground)
        self._gather(ground, self._request(plan, ground))
        with progress.stage("plan"):
            saturation, notes = complete(
                ground.model,
                plan,
                job.target,
                replace(job.scheme, ranges=recipe.ranges),
                ground.statistics,
                after_ranges=lambda p: scale_ranges(p, recipe.factors),
            )
        if like is not None or (trial and self.compares_bare):
            if like is not None:
                plan.corrections = dict(like.plan.corrections)
                plan.rounded = dict(like.plan.rounded)
            made = Candidate(recipe, ground.model, plan, saturation, tuple(notes), is_borrowed=True)
            score = self.scorer.judge(plan, ground.model)
            seconds = time.perf_counter() - start
            return replace(made, score=score.db, agreement=score.agreement, seconds=seconds)
        with progress.stage("correct biases"):
            samples = ordered_map(lambda i: self._feeds[i], range(self.count), job.scheme.threads)
            round_and_correct(
                ground.model,
                plan,
                job.executor,
                samples,
                ground.statistics,
                target=job.target,
                rounder=recipe.rounder,
                threads=job.scheme.threads,
                budget=budget,
            )
            del samples
            if last:
                self._feeds.forget()
        made = self._scored(Candidate(recipe, ground.model, plan, saturation, tuple(notes)))
        return replace(made, seconds=time.perf_counter() - start)

    def _scored(self, made: Candidate) -> Candidate:
        """The candidate with its score, and without its corrections where they do not pay."""
        if not made.plan.corrections or self._correction_pays:
            score = self.scorer.judge(made.plan, made.model)
            return replace(made, score=score.db, agreement=score.agreement)
        return self._with_correction_tried(made)

    @property
    def compares_bare(self) -> bool:
        """Whether candidates that keep the same layers integer are compared before correction.

        So they are where the first one's correction changed little (``SMALL_GAIN``): a walk through
        the graph for each of them would tell nothing. The one that is kept is corrected.
        """
        return self._trusting and self._is_small

    def bare(self, made: Candidate) -> Candidate:
        """A candidate before its biases were corrected, if candidates are compared so."""
        if not made.plan.corrections or not self.compares_bare:
            return made
        plan, tried = replace(made.plan, corrections={}), made.correction
        if tried is None:
            score = self.scorer.judge(plan, made.model)
        else:
            score = Score(tried.before, tried.agreement_before)
        return replace(
            made,
            plan=plan,
            score=score.db,
            agreement=score.agreement,
            correction=None,
            is_borrowed=True,
        )

    def corrected(self, made: Candidate) -> Candidate:
        """A candidate that was compared bare, with corrections of its own; any other one itself."""
        return self.make(made.recipe) if made.is_bare else made

    def settled(self, made: Candidate) -> Candidate:
        """The candidate that was chosen, its corrections its own and not just taken on trust."""
        if made.is_borrowed:
            made = self.make(made.recipe)
        is_untried = made.plan.corrections and made.correction is None
        if not is_untried or self._is_sure:
            return made
        return self._with_correction_tried(made, Score(made.score, made.agreement))

    def _with_correction_tried(self, made: Candidate, known: Score | None = None) -> Candidate:
        """Without the corrections where they do not pay; ``known`` is the score with them."""
        start = time.perf_counter()
        with self.job.progress.stage("try the correction"):
            plain = replace(made.plan, corrections={})
            before = self.scorer.judge(plain, made.model)
            after = self.scorer.judge(made.plan, made.model) if known is None else known
        kept = after.db > before.db
        if self._correction_pays is None:
            self._is_sure = after.db >= before.db + SURE_GAIN
            self._is_small = abs(after.db - before.db) < SMALL_GAIN
            self._correction_pays = self._is_sure or (kept and self._trusting)
        trial = Trial(
            "bias correction",
            before.db,
            after.db,
            kept,
            before.agreement,
            after.agreement,
            time.perf_counter() - start,
        )
        best = after if kept else before
        return replace(
            made,
            plan=made.plan if kept else plain,
            score=best.db,
            agreement=best.agreement,
            correction=trial,
        )

    def _empty(self, recipe: Recipe, ground: Ground | None = None) -> QuantPlan:
        """A plan without parameters; it knows the canonical graph, and what was made of that."""
        job = self.job
        model = job.model if ground is None else ground.model
        plan = empty_plan(
            model,
            job.target,
            job.scheme,
            job.float_nodes,
            recipe.chosen,
            fingerprint=self._fingerprint,
            tables=self._tables,
        )
        self._fingerprint = plan.fingerprint
        if ground is not None and ground.transforms:
            plan.transforms = ground.transforms
        return plan

    def _request(self, plan: QuantPlan, ground: Ground) -> StatisticRequest:
        """What a plan asks for, and what the next candidates will that stand on the same graph.

        All methods at once, also where a transform may not be kept: a second run costs more.
        """
        graph, request = ground.model.graph, StatisticRequest()
        plans = [plan]
        if not ground.statistics:
            plans += [self._empty(Recipe(chosen=chosen), ground) for chosen in self._foreseen]
        for each in plans:
            for method in self._methods:
                join(request, range_request(graph, each, self.job.target, RANGE_METHODS[method]()))
        for name in self._transforms_after(ground):
            join(request, TRANSFORMS[name].request(ground.model))
        join(request, mean_request(graph, plan, self.count))
        return request

    def _transforms_after(self, ground: Ground) -> tuple[str, ...]:
        done = [self._transforms.index(n) for n in ground.transforms if n in self._transforms]
        return self._transforms[max(done, default=-1) + 1 :]

    def _ground(self, names: tuple[str, ...]) -> Ground:
        """The graph that some transforms make, once; what they leave alone is known already."""
        if names not in self._grounds:
            before = self._ground(names[:-1])
            transform = TRANSFORMS[names[-1]]
            wanted = transform.request(before.model)
            self._gather(before, wanted)
            granularity = self.job.scheme.granularity
            factors = transform.find(before.model, before.statistics, granularity) if wanted else {}
            if not factors:
                return before
            changed = transform.changed_values(before.model, factors)
            known = {v: dict(of) for v, of in before.statistics.items() if v not in changed}
            transforms = {**before.transforms, names[-1]: factors}
            model = transformed(self.job.model, transforms)
            self._grounds[names] = Ground(model, transforms, known)
        return self._grounds[names]

    def _gather(self, ground: Ground, request: StatisticRequest) -> None:
        """Gather what is asked for and not known yet."""
        job, missing = self.job, without(request, ground.statistics)
        if not missing:
            return
        found = gather(
            job.executor,
            ground.model,
            missing,
            self._feeds,
            job.progress,
            threads=job.scheme.threads,
        )
        for value, of in found.items():
            ground.statistics.setdefault(value, {}).update(of)


@dataclass(frozen=True)
class Remake:
    """Makes a candidate again, with other nodes float, wide or dynamic."""

    shop: Workshop
    made: Candidate

    def __call__(self, chosen: Chosen, budget: Budget | None = None) -> Candidate:
        """The candidate of the same recipe but for what is chosen for single nodes."""
        return self.shop.make(replace(self.made.recipe, chosen=chosen), budget)

    def planned(self, chosen: Chosen) -> QuantPlan:
        """Its modes and values alone, without parameters."""
        job = self.shop.job
        return empty_plan(self.made.model, job.target, job.scheme, job.float_nodes, chosen)
