"""Budgets on accuracy, time and size: the cheapest plan that keeps them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler.budgets import Limit
from qcompile.compiler.mixed.cost import Artefacts
from qcompile.compiler.mixed.groups import groups
from qcompile.compiler.mixed.judge import Judge
from qcompile.compiler.mixed.leave_float import Replan, leave_float
from qcompile.compiler.mixed.search import OutOfTimeError, fewest
from qcompile.compiler.mixed.sensitivity import Trials, digest, pareto, sensitivity
from qcompile.compiler.progress import Progress
from qcompile.compiler.report.mixed import (
    BudgetSearch,
    FloatCost,
    Gate,
    LayerSensitivity,
    Mixed,
    MixedTimes,
)
from qcompile.compiler.report.model import Latency
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target

Feeds = Mapping[str, np.ndarray]

SHOWN: Final = 5
"""Layers whose cost as float is worked out in bytes, points and milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """What a plan has to keep; None means that nothing was asked."""

    max_drop: float | None = None
    """Most points of the metric that may be lost (see ``Judge``)."""
    max_latency: Limit | None = None
    max_size: Limit | None = None
    time_budget: float | None = None
    """Seconds that the search may take."""

    @property
    def any(self) -> bool:
        """Whether anything was asked of the artefact."""
        return (self.max_drop, self.max_latency, self.max_size) != (None, None, None)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a search works with.

    Args:
        model: the graph that the plan is laid on.
        target: what the plan is made for.
        replan: decides modes and values anew, given what must be float.
        trials: scores plans on held-out samples.
        judge: measures the points that plans lose.
        artefacts: lower plans for each target; the first one is also timed.
        timed: the sample to time with; None where the target does not run here.
        correct: corrects the biases of a plan anew, over all samples that were used for it.
    """

    model: ir.Model
    target: Target
    replan: Replan
    trials: Trials
    judge: Judge
    artefacts: Sequence[Artefacts]
    timed: Feeds | None
    correct: Callable[[QuantPlan], QuantPlan]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The plan that was chosen, and the evidence."""

    plan: QuantPlan
    mixed: Mixed
    times: MixedTimes


def keep_budgets(
    setting: Setting,
    plan: QuantPlan,
    budgets: Budgets,
    progress: Progress,
    *,
    listing: bool = False,
) -> Kept:
    """Find the cheapest plan that keeps the budgets: as few layers float as will do.

    1. A plan that keeps them is taken as it is.
    2. Otherwise every layer is left float on its own (``sensitivity``), and ``fewest`` looks for a
       set of layers, by the gain of each and, if time or size is limited, by gain for each
       multiply-add or weight as well.
    3. Where only the time is too long, layers whose float form is faster are left float.
    4. The biases of every plan that is judged are corrected anew.

    Args:
        setting: the model, and what scores, judges and times plans of it.
        plan: the finished plan; it is not changed.
        budgets: what to keep.
        progress: told of each stage.
        listing: rank the layers even where nothing has to be looked for.

    Returns:
        The chosen plan; when none keeps the budgets, the best one found, and a gate that failed.
    """
    return _Search(setting, plan, budgets, progress).run(listing=listing)


@dataclass
class _Search:
    setting: Setting
    plan: QuantPlan
    budgets: Budgets
    progress: Progress
    clock: Callable[[], float] = time.monotonic
    _drops: dict[str, float] = field(default_factory=dict)
    _timed: dict[str, Gate] = field(default_factory=dict)
    _made: dict[frozenset[str], QuantPlan] = field(default_factory=dict)

    def run(self, *, listing: bool) -> Kept:
        limit = self.budgets.time_budget
        self.deadline = None if limit is None else self.clock() + limit
        self.groups = groups(self.setting.model.graph, self.plan, self.setting.target)
        self.rows: list[LayerSensitivity] = []
        self.late = False
        chosen: frozenset[str] = frozenset()
        failed = not all(gate.passed for gate in self._gates(self.plan))
        if listing or failed:
            self._rank(alone=listing)
        if failed:
            chosen = self._choose()
        final = self._with(chosen)
        costs = self._counterfactuals()
        return Kept(
            plan=final,
            mixed=Mixed(
                layers=tuple(self.rows),
                search=self._found(chosen, final),
                gates=self._fixed_gates(final),
            ),
            times=MixedTimes(costs=costs, gates=self._clocked_gates(final)),
        )

    # --- plans ---------------------------------------------------------------------------------

    def _with(self, chosen: frozenset[str]) -> QuantPlan:
        """The plan with these layers float and its biases corrected for it; made once."""
        if not chosen:
            return self.plan
        if chosen not in self._made:
            gained = {row.node: row.gained_db for row in self.rows}
            reasons = {
                group.name: _reason(gained.get(group.name))
                for group in self.groups
                if group.name in chosen
            }
            made = leave_float(self.plan, reasons, self.setting.replan)
            self._made[chosen] = self.setting.correct(made)
        return self._made[chosen]

    def _drop(self, plan: QuantPlan) -> float:
        key = digest(plan)
        if key not in self._drops:
            self._drops[key] = self.setting.judge.drop(plan)
        return self._drops[key]

    # --- budgets -------------------------------------------------------------------------------

    def _gates(self, plan: QuantPlan) -> tuple[Gate, ...]:
        """Every budget that was set, the cheapest to look at first."""
        return (*self._fixed_gates(plan), *self._clocked_gates(plan))

    def _fixed_gates(self, plan: QuantPlan) -> tuple[Gate, ...]:
        gates: list[Gate] = []
        if self.budgets.max_size is not None:
            gates += [
                _size_gate(made, plan, self.budgets.max_size) for made in self.setting.artefacts
            ]
        if self.budgets.max_drop is not None:
            drop = self._drop(plan)
            metric = f"points of {self.setting.judge.metric}"
            gates.append(_gate("max-drop", self.budgets.max_drop, drop, metric))
        return tuple(gates)

    def _clocked_gates(self, plan: QuantPlan) -> tuple[Gate, ...]:
        """The budget of time; a plan is timed once, so that its answer stays the same."""
        budget, feeds = self.budgets.max_latency, self.setting.timed
        if budget is None or feeds is None:
            return ()
        key = digest(plan)
        if key not in self._timed:
            made = self.setting.artefacts[0]
            found = made.times({"integer": plan}, feeds, floats=True)
            integer, floats = (timing.median_ms for timing in found.timings)
            remark = "ms, the median of one thread"
            self._timed[key] = _gate("max-latency", budget.amount(floats), integer, remark)
        return (self._timed[key],)

    # --- the search ----------------------------------------------------------------------------

    def _rank(self, *, alone: bool) -> None:
        with self.progress.stage("sensitivity", len(self.groups)) as counter:
            rows = sensitivity(
                self.setting.trials,
                self.plan,
                self.groups,
                alone=alone,
                deadline=None if self.deadline is None else self._share_of_time(0.5),
                advance=counter.advance,
                clock=self.clock,
            )
        best = {row.node for row in pareto(rows)}
        self.rows = [replace(row, best=row.node in best) for row in rows]

    def _share_of_time(self, share: float) -> float:
        """The reading of the clock at which so much of what is left of the time is over."""
        assert self.deadline is not None
        now = self.clock()
        return now + share * max(self.deadline - now, 0.0)

    def _choose(self) -> frozenset[str]:
        """The set of layers to leave float: one that keeps all budgets, else the best seen."""
        seen: list[frozenset[str]] = []
        if self.budgets.max_drop is not None and self._drop(self.plan) > self.budgets.max_drop:
            with self.progress.stage("search"):
                for ranked in self._rankings():
                    found = fewest(ranked, self._cost(), self._holds)
                    if found is None:
                        continue
                    seen.append(found)
                    if all(gate.passed for gate in self._gates(self._with(found))):
                        return found
        elif self.budgets.max_latency is not None and self.setting.timed is not None:
            with self.progress.stage("search"):
                seen.append(self._faster(self.setting.timed))
        if seen:
            return seen[0]
        return min(
            self._made, key=lambda s: (self._drop(self._with(s)), len(s)), default=frozenset()
        )

    def _rankings(self) -> list[list[str]]:
        """Orders in which layers become float, the first one the most promising.

        Layers that there was no time to rank come last.
        """
        ranked = [[row.node for row in self.rows]]
        if self.budgets.max_size is not None:
            ranked.append(self._by_gain_for(lambda row: row.weights_share))
        if self.budgets.max_latency is not None:
            ranked.append(self._by_gain_for(lambda row: row.macs_share))
        rest = [g.name for g in self.groups if g.name not in ranked[0]]
        return [[*order, *rest] for order in ranked]

    def _by_gain_for(self, share: Callable[[LayerSensitivity], float]) -> list[str]:
        """By gain for what it costs; what gains nothing comes last, by what it loses."""

        def key(row: LayerSensitivity) -> float:
            return -row.gained_db / (share(row) + 1e-3) if row.gained_db > 0 else -row.gained_db

        return [row.node for row in sorted(self.rows, key=key)]

    def _cost(self) -> dict[str, float]:
        """What a layer costs as float, for taking back the costly ones: its share of the work."""
        macs = sum(group.macs for group in self.groups) or 1
        weights = sum(group.weights for group in self.groups) or 1
        return {g.name: g.macs / macs + g.weights / weights for g in self.groups}

    def _holds(self, chosen: frozenset[str]) -> bool:
        assert self.budgets.max_drop is not None
        key = digest(self._with(chosen))
        if key not in self._drops and self.deadline is not None and self.clock() > self.deadline:
            self.late = True
            raise OutOfTimeError
        return self._drop(self._with(chosen)) <= self.budgets.max_drop

    def _faster(self, feeds: Feeds) -> frozenset[str]:
        """The layers whose float form makes the whole model faster for sure.

        One layer of each structure is timed, in one run with the plan as it is.
        """
        first = {group.structure: group for group in reversed(self.groups)}
        plans = {"integer": self.plan}
        plans |= {g.name: self._with(frozenset({g.name})) for g in first.values()}
        found = self.setting.artefacts[0].times(plans, feeds, floats=False)
        faster = {ratio.name for ratio in found.ratios if ratio.verdict == "faster"}
        structures = {group.structure for group in first.values() if group.name in faster}
        return frozenset(g.name for g in self.groups if g.structure in structures)

    # --- the evidence --------------------------------------------------------------------------

    def _counterfactuals(self) -> tuple[FloatCost, ...]:
        """Work out what the foremost layers cost as float, in points, bytes and milliseconds."""
        shown = [row for row in self.rows if row.gained_db > 0][:SHOWN]
        if not shown or (self.deadline is not None and self.clock() > self.deadline):
            return ()
        made = self.setting.artefacts[0]
        with self.progress.stage("what layers cost as float", len(shown)) as counter:
            before, size = self._drop(self.plan), made.size(self.plan)
            plans = {"integer": self.plan}
            for row in shown:
                plan = plans[row.node] = self._with(frozenset({row.node}))
                points = before - self._drop(plan)
                told = replace(row, points=points, bytes=made.size(plan) - size)
                self.rows[self.rows.index(row)] = told
                counter.advance()
            if self.setting.timed is None:
                return ()
            return _costs(made.times(plans, self.setting.timed, floats=False))

    def _found(self, chosen: frozenset[str], final: QuantPlan) -> BudgetSearch | None:
        if not self.budgets.any:
            return None
        made = self.setting.artefacts[0]
        return BudgetSearch(
            metric=self.setting.judge.metric,
            float_layers=tuple(g.name for g in self.groups if g.name in chosen),
            drop_before=self._drops.get(digest(self.plan)),
            drop=self._drops.get(digest(final)),
            size_before=made.size(self.plan),
            size=made.size(final),
            trials=self.setting.judge.trials,
            in_time=not self.late,
        )


def _reason(gained: float | None) -> str:
    if gained is None:
        return "left float: faster so"
    return f"left float to keep the budget: outputs {gained:+.1f} dB by it alone"


def _size_gate(made: Artefacts, plan: QuantPlan, most: Limit) -> Gate:
    limit, size = most.amount(made.float_bytes), made.size(plan)
    return _gate("max-size", limit, size, f"bytes for {made.target.name}")


def _gate(name: str, limit: float, value: float, remark: str) -> Gate:
    return Gate(name=name, limit=limit, value=value, passed=value <= limit, remark=remark)


def _costs(found: Latency) -> tuple[FloatCost, ...]:
    """Milliseconds over the first model, from the ratios of medians and their intervals."""
    base = found.timings[0].median_ms
    return tuple(
        FloatCost(
            node=ratio.name,
            ms=base * (ratio.value - 1),
            low=base * (ratio.low - 1),
            high=base * (ratio.high - 1),
        )
        for ratio in found.ratios
    )
