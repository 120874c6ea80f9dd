"""Layers that find a scale a token: transforms are tried one after the other, what pays is kept."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler.calibration.gather import gather
from qcompile.compiler.planning import complete, empty_plan
from qcompile.compiler.scoring import Score, Scorer
from qcompile.compiler.search.efforts import EQUAL_GAIN, HELD_OUT, TRANSFORM_STEPS, held_out
from qcompile.compiler.search.recipe import Trial
from qcompile.compiler.search.weights_only import search_stored
from qcompile.compiler.search.workshop import Job
from qcompile.compiler.weights_only import plan_stored
from qcompile.core import graph as g
from qcompile.core.executor import Feeds
from qcompile.core.notes import Note
from qcompile.core.numerics.affine import limits
from qcompile.core.plan import QuantPlan
from qcompile.passes.plan.safe_weights import SaturationCount
from qcompile.passes.transform.table import TRANSFORMS, transformed

Transforms = dict[str, dict[str, np.ndarray]]

ROTATED: Final = "outliers spread over all channels"

STEPS: Final[tuple[tuple[str, ...], ...]] = (("smooth",), ("divide",))
"""Transforms that are tried, each on top of what was kept."""

FEW_BITS_STEPS: Final[tuple[tuple[str, ...], ...]] = (*STEPS, ("rotate",))
"""Those of activations of fewer than 8 bits. A rotation costs small products as the model runs,
which 8 bits a token do not need."""

INSTEAD: Final = ("rotate",)
"""Tried in the place of all that was kept, where that is more: a rotation takes the gains of norms
out again, and with them what was smoothed there."""


@dataclass(frozen=True)
class TokensFound:
    """The outcome of a search."""

    model: ir.Model
    """The graph the plan is laid on."""
    plan: QuantPlan
    saturation: SaturationCount
    trials: tuple[Trial, ...] = ()
    notes: tuple[Note, ...] = ()


def search_tokens(job: Job) -> TokensFound:
    """The best plan of a scheme with scales a token that effort and samples allow.

    ``fast``, and every effort without samples, leaves the graph as it is. Trials are judged with
    nearest weights, by the outputs on held-out samples; stored weights of the best one are then
    rounded as ``search_stored`` does.

    Args:
        job: the model, the target and the samples.
    """
    if job.scheme.effort == "fast" or not len(job.feeds):
        model, found = job.model, _planned(job, job.model, {})
        return TokensFound(model, *found)
    return _Search(job).run()


def _planned(
    job: Job, model: ir.Model, transforms: Transforms
) -> tuple[QuantPlan, SaturationCount, tuple[Trial, ...], tuple[Note, ...]]:
    """A plan with nearest weights for what transforms made of the canonical graph."""
    saturation, notes = SaturationCount(), tuple[Note, ...]()
    if job.scheme.weight_bits:
        plan = plan_stored(model, job.target, job.scheme, job.progress, job.float_nodes)
    else:
        plan = empty_plan(model, job.target, job.scheme, job.float_nodes)
        saturation, said = complete(model, plan, job.target, job.scheme, {})
        notes = tuple(said)
    plan.transforms = dict(transforms)
    plan.fingerprint = g.fingerprint(job.model)
    return plan, saturation, (), notes


class _Search:
    """One search; what is kept grows step by step."""

    def __init__(self, job: Job) -> None:
        self.job = job
        held = held_out(len(job.feeds))
        self.seen = job.feeds[: len(job.feeds) - held]
        judged: Sequence[Feeds] = job.feeds[len(self.seen) :] or self.seen
        self.scorer = Scorer(job.model, job.executor, judged[: HELD_OUT[1]], job.scheme.threads)
        self.kept: Transforms = {}
        self.model, self.found = job.model, _planned(job, job.model, {})
        self.score = self._judge(self.found[0], self.model)
        self.trials: list[Trial] = []

    def run(self) -> TokensFound:
        """Every step, then the weights."""
        low, high = limits(self.job.target.activations.dtype)
        few = high - low < 2**8 - 1
        for names in FEW_BITS_STEPS if few else STEPS:
            self._try(names, self.kept)
        if few and set(self.kept) > set(INSTEAD):
            self._try(INSTEAD, {})
        return self._rounded()

    def _try(self, names: Sequence[str], before: Transforms) -> None:
        """Put transforms on top of others; keep the outcome if it beats the best one."""
        if self.job.budget.is_spent:
            return
        start = time.perf_counter()
        wanted = dict(before)
        for name in names:
            factors = self._factors(name, transformed(self.job.model, wanted))
            if not factors:
                return
            wanted[name] = factors
        model = transformed(self.job.model, wanted)
        found = _planned(self.job, model, wanted)
        score = self._judge(found[0], model)
        is_kept = score.db >= self.score.db + EQUAL_GAIN
        title = " and ".join(TRANSFORM_STEPS.get(name, ROTATED) for name in names)
        self.trials.append(
            Trial(
                title if before or not self.kept else f"{title}, and nothing else",
                self.score.db,
                score.db,
                is_kept,
                self.score.agreement,
                score.agreement,
                time.perf_counter() - start,
            )
        )
        if is_kept:
            self.kept, self.model, self.found, self.score = wanted, model, found, score

    def _factors(self, name: str, model: ir.Model) -> dict[str, np.ndarray]:
        transform = TRANSFORMS[name]
        request = transform.request(model)
        if not request:
            return {}
        job = self.job
        statistics = gather(
            job.executor, model, request, self.seen, job.progress, threads=job.scheme.threads
        )
        return transform.find(model, statistics, job.scheme.granularity)

    def _judge(self, plan: QuantPlan, model: ir.Model) -> Score:
        with self.job.progress.stage("score"):
            return self.scorer.judge(plan, model)

    def _rounded(self) -> TokensFound:
        """With the weights rounded by the error of the outputs, where they are stored."""
        plan, saturation, _, notes = self.found
        if not self.job.scheme.weight_bits:
            return TokensFound(self.model, plan, saturation, tuple(self.trials), notes)
        stored = search_stored(replace(self.job, model=self.model))
        made = stored.plan
        made.fingerprint = plan.fingerprint
        made.transforms = {**self.kept, **made.transforms}
        trials = (*self.trials, *stored.trials)
        return TokensFound(stored.model, made, saturation, trials, (*notes, *stored.notes))
