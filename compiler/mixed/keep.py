"""Budgets on accuracy, time and size: the cheapest plan that keeps them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from qcompile.compiler.mixed.again import made_anew, made_wide
from qcompile.compiler.mixed.evidence import SHOWN, counterfactuals
from qcompile.compiler.mixed.gates import Gates
from qcompile.compiler.mixed.groups import groups
from qcompile.compiler.mixed.leave_float import leave_float
from qcompile.compiler.mixed.pace import Pace
from qcompile.compiler.mixed.records import Budgets, Kept, Setting
from qcompile.compiler.mixed.search import OutOfTimeError, fewest
from qcompile.compiler.mixed.sensitivity import pareto, sensitivity
from qcompile.compiler.progress import Progress
from qcompile.compiler.report.mixed import BudgetSearch, LayerSensitivity, Mixed, MixedTimes
from qcompile.compiler.search.recipe import Candidate
from qcompile.core.executor import Feeds
from qcompile.core.plan import QuantPlan

__all__ = ["SHOWN", "keep_budgets"]

RANKING_SHARE = 0.5
"""Part of the time that is left which the ranking of the layers may take."""


CORRECTION_SHARE = 0.5
"""Of the time that a plan took from calibration on, what correcting another one takes."""

SPARE = 0.05
"""Part of the time that is kept for what is done in any case."""


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
    5. What was chosen is made anew from its recipe, and, where the target has int16 activations,
       also with these in place of floats; either is taken where it keeps the budgets and is better
       at once (``_finish``).

    Under a budget of time no trial is begun that would not end in it.

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
    _made: dict[frozenset[str], QuantPlan] = field(default_factory=dict)

    def run(self, *, listing: bool) -> Kept:
        self.pace = Pace(self.budgets.time.share(1 - SPARE))
        if self.setting.remake is not None:
            seconds = self.setting.remake.made.seconds
            self.pace.expect("make anew", seconds)
            for kind in ("try a set", "layer as float"):
                self.pace.expect(kind, CORRECTION_SHARE * seconds)
        self.gates = Gates(self.setting, self.budgets, self.pace)
        self.groups = groups(self.setting.model.graph, self.plan, self.setting.target)
        self.rows: list[LayerSensitivity] = []
        self.late = False
        chosen: frozenset[str] = frozenset()
        failed = not self.gates.pass_for(self.plan)
        if listing or failed:
            self._rank(alone=listing)
        if failed:
            chosen = self._choose()
        remade = self._finish(chosen) if chosen else None
        final = self._with(chosen) if remade is None else remade.plan
        self.rows, costs = counterfactuals(
            self.setting, self.gates, self.plan, self.rows, self._one_float, self.progress
        )
        return Kept(
            plan=final,
            mixed=Mixed(
                layers=tuple(self.rows),
                search=self._found(chosen, final),
                gates=self.gates.fixed(final),
            ),
            times=MixedTimes(costs=costs, gates=self.gates.clocked(final)),
            remade=remade,
        )

    # --- plans ---------------------------------------------------------------------------------

    def _with(self, chosen: frozenset[str]) -> QuantPlan:
        """The plan with these layers float and its biases corrected for it; made once."""
        if not chosen:
            return self.plan
        if chosen not in self._made:
            with self.pace.trial("correct"):
                self._made[chosen] = self.setting.correct(self._uncorrected(chosen))
        return self._made[chosen]

    def _one_float(self, name: str) -> QuantPlan:
        return self._with(frozenset({name}))

    def _uncorrected(self, chosen: frozenset[str]) -> QuantPlan:
        gained = {row.node: row.gained_db for row in self.rows}
        reasons = {g.name: _reason(gained.get(g.name)) for g in self.groups if g.name in chosen}
        return leave_float(self.plan, reasons, self.setting.replan)

    def _finish(self, chosen: frozenset[str]) -> Candidate | None:
        """The chosen plan made anew, if that is better at once; None where it stays as it is.

        Made anew with the same layers float, it must lose no more; with int16 in their place, it
        must be smaller, or faster where that can be measured. Budgets that were kept stay kept.
        """
        remake = self.setting.remake
        if remake is None:
            return None
        best: Candidate | None = None
        with self.progress.stage("make the plan anew"):
            if not self.pace.fits("make anew"):
                return None
            old = self._with(chosen)
            with self.pace.trial("make anew"):
                made = made_anew(remake, old, self.budgets.time)
            if self._stays_kept(old, made.plan) and (
                self.gates.drop(made.plan).points <= self.gates.drop(old).points
            ):
                best, old = made, made.plan
            if self.pace.fits("make anew"):
                wide = self._made_wide(chosen)
                if (
                    wide is not None
                    and self._stays_kept(old, wide.plan)
                    and (self._is_cheaper(wide.plan, old))
                ):
                    best = wide
        return best

    def _made_wide(self, chosen: frozenset[str]) -> Candidate | None:
        assert self.setting.remake is not None
        layers = [group for group in self.groups if group.name in chosen]
        graph, target = self.setting.model.graph, self.setting.target
        return made_wide(self.setting.remake, graph, target, self.plan, layers, self.budgets.time)

    def _stays_kept(self, old: QuantPlan, new: QuantPlan) -> bool:
        return self.gates.pass_for(new) or not self.gates.pass_for(old)

    def _is_cheaper(self, new: QuantPlan, old: QuantPlan) -> bool:
        """Whether a plan is faster for sure; where nothing can be timed, whether it is smaller."""
        made, feeds = self.setting.artefacts[0], self.setting.timed
        if feeds is None:
            return made.size(new) < made.size(old)
        (ratio,) = made.times({"old": old, "new": new}, feeds, floats=False).ratios
        smaller = ratio.verdict != "slower" and made.size(new) < made.size(old)
        return ratio.verdict == "faster" or smaller

    # --- the search ----------------------------------------------------------------------------

    def _rank(self, *, alone: bool) -> None:
        with self.progress.stage("sensitivity", len(self.groups)) as counter:
            until = Pace(self.budgets.time.share(RANKING_SHARE), self.pace.clock)
            rows = sensitivity(
                self.setting.trials,
                self.plan,
                self.groups,
                alone=alone,
                pace=until,
                advance=counter.advance,
            )
        best = {row.node for row in pareto(rows)}
        self.rows = [replace(row, best=row.node in best) for row in rows]

    def _choose(self) -> frozenset[str]:
        """The set of layers to leave float: one that keeps all budgets, else the best seen."""
        seen: list[frozenset[str]] = []
        limit = self.budgets.max_drop
        if limit is not None and self.gates.drop(self.plan).points > limit:
            with self.progress.stage("search"):
                for ranked in self._rankings():
                    found = fewest(ranked, self._cost(), self._holds)
                    if found is None:
                        continue
                    seen.append(found)
                    if self.gates.pass_for(self._with(found)):
                        return found
        elif self.budgets.max_latency is not None and self.setting.timed is not None:
            with self.progress.stage("search"):
                seen.append(self._faster(self.setting.timed))
        if seen:
            return seen[0]
        return self._least_lost()

    def _least_lost(self) -> frozenset[str]:
        """Of the sets that were judged the one that loses least, of these the smallest."""
        known = {chosen: self.gates.known_drop(plan) for chosen, plan in self._made.items()}
        judged = {chosen: drop.points for chosen, drop in known.items() if drop is not None}
        return min(judged, key=lambda s: (judged[s], len(s)), default=frozenset())

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
        if chosen and chosen not in self._made and not self.pace.fits("try a set"):
            self.late = True
            raise OutOfTimeError
        with self.pace.trial("try a set"):
            return self.gates.drop(self._with(chosen)).points <= self.budgets.max_drop

    def _faster(self, feeds: Feeds) -> frozenset[str]:
        """The layers whose float form makes the whole model faster for sure.

        One layer of each structure is timed, in one run with the plan as it is; biases need not be
        right for that.
        """
        first = {group.structure: group for group in reversed(self.groups)}
        plans = {"integer": self.plan}
        plans |= {g.name: self._uncorrected(frozenset({g.name})) for g in first.values()}
        found = self.setting.artefacts[0].times(plans, feeds, floats=False)
        faster = {ratio.name for ratio in found.ratios if ratio.verdict == "faster"}
        structures = {group.structure for group in first.values() if group.name in faster}
        return frozenset(g.name for g in self.groups if g.structure in structures)

    def _found(self, chosen: frozenset[str], final: QuantPlan) -> BudgetSearch | None:
        if not self.budgets.any:
            return None
        made = self.setting.artefacts[0]
        before, after = self.gates.known_drop(self.plan), self.gates.known_drop(final)
        layers = [g.name for g in self.groups if g.name in chosen]
        return BudgetSearch(
            metric=self.setting.judge.metric,
            float_layers=tuple(name for name in layers if not final.is_wide(name)),
            wide_layers=tuple(name for name in layers if final.is_wide(name)),
            drop_before=None if before is None else before.points,
            drop=None if after is None else after.points,
            drop_low=None if after is None else after.low,
            drop_high=None if after is None else after.high,
            size_before=made.size(self.plan),
            size=made.size(final),
            trials=self.setting.judge.trials,
            in_time=not self.late,
        )


def _reason(gained: float | None) -> str:
    if gained is None:
        return "left float: faster so"
    return f"left float to keep the budget: outputs {gained:+.1f} dB by it alone"
