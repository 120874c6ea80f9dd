"""``--never-slower``: the fastest division of a plan into integer and float layers, by a clock."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median
from typing import Final

from qcompile.compiler.mixed.division import cheapest
from qcompile.compiler.mixed.fit import Fit, Solved
from qcompile.compiler.mixed.region_costs import CALL, Parts, Regions
from qcompile.compiler.mixed.stopwatch import Stopwatch
from qcompile.compiler.progress import Progress
from qcompile.compiler.report.latency import Ratio
from qcompile.core.budget import Budget
from qcompile.core.plan import NodeCost, QuantPlan
from qcompile.targets.cost_table import CostTable
from qcompile.targets.devices.device import TimingPlan

STRETCH: Final = TimingPlan(0.5, rounds=(7, 400))
"""For each plan while looking for the fastest one, beside the float model."""
AT_LAST: Final = TimingPlan(0.5)
"""For each of the fastest, every time that it and the float model are loaded."""
LAST_LOADS: Final = 3
"""Times that they are loaded: how memory lies then can change a ratio by several percent."""
MOST_PLANS: Final = 64
"""Plans that are timed before the last comparison."""
ROUNDS: Final = 6
"""Times that the cheapest plan is worked out anew from what was measured."""
STAKE: Final = 0.01
"""Share of the artefact's time that a kind of layer could save as float, to be tried for itself."""
BENEFIT: Final = 0.3
"""Share by which the guess of a kind may be wrong, on either side, in float's favour."""
WORTH: Final = 0.01
"""Share of the time by which a plan must look faster than the fastest one to be tried, or, where
nothing can be timed, than the plan as it is to be taken."""
LOADS: Final = 0.004
"""Standard deviation of the ratio of two loads of one model: memory lies differently."""
CAUTIONS: Final = (0.0, 1.0, -1.0)
"""Standard deviations by which a layer must be faster as float: plans with each are tried."""
EVEN: Final = 0.03
"""Share of the time that is no difference: so much one and the same pair of models differs from one
process to the next."""
SURE: Final = 0.02
"""Share by which a plan that is not the fastest must be faster than float."""
NEIGHBOURS: Final = 3
"""Plans like the best one with one kind of layer all float or all integer, tried each round."""
FINALISTS: Final = 2
"""Plans that are timed again for being fastest, and as many for their work in integers."""

_CALL_SHARE: Final = 0.1
"""Guess of what a run of the float model takes besides its layers, as a share."""


@dataclass(frozen=True)
class Tried:
    """A plan that was timed."""

    plan: QuantPlan
    layers: frozenset[str]
    """Those that are float."""
    ratio: Ratio
    """Its time over that of the float model."""
    integer_work: float
    """Share of the multiply-adds that are done in integers."""


@dataclass(frozen=True)
class Chosen:
    """The outcome."""

    layers: frozenset[str]
    """To leave float."""
    costs: dict[str, NodeCost]
    """Layer -> what it takes."""
    ratio: Ratio | None
    """Of the chosen plan over float; None where nothing was timed."""
    first: Ratio | None
    """Of the plan as it was."""
    timed: int = 0
    """Plans that were timed."""


@dataclass
class NeverSlower:
    """Looks for the plan whose artefact is fastest, by timing whole artefacts.

    1. The plan as it is is timed beside the float model; then, in place, each kind of layer as
       float, equal layers at once, unless by the guess they save nothing even if it is wrong by
       ``BENEFIT``; and where the plan may be slower than float, beginnings and ends of the model.
    2. What layers and borders take is fitted to these times (``fit``; a table of costs, scaled to
       the float model's time, is the guess to begin with), and the cheapest division is worked out
       (``division``). It is timed, the fit repeated, until no division looks faster.
    3. The fastest ones are timed again, longer. Of those that are surely no slower than float and
       may be as fast as the fastest (``EVEN``), the one with most multiply-adds in integers is
       chosen. A plan without any is only taken where every other one is slower than float beyond
       its interval.

    Args:
        regions: of the plan.
        lower: makes the artefact of a plan.
        leave_float: the plan with some layers float.
        table: guesses.
        watch: times; None to decide by the guesses alone: the cheapest division by them.
        budget: of time; no plan is timed after it.
        progress: told of the stage.
    """

    regions: Regions
    lower: Callable[[QuantPlan], bytes]
    leave_float: Callable[[frozenset[str]], QuantPlan]
    table: CostTable
    watch: Stopwatch | None
    budget: Budget
    progress: Progress
    _tried: dict[frozenset[str], Tried] = field(default_factory=dict)
    _whole: float = 0.0
    """What the float model takes, in the unit that the plan's figures get."""

    def run(self) -> Chosen:
        """Choose the layers to leave float."""
        self._fit = self._guessed()
        if self.watch is None:
            return self._by_guesses()
        with self.progress.stage("time regions") as counter:
            self._counter = counter
            self._try(frozenset())
            for layers in self._designed():
                self._try(layers)
            for _ in range(ROUNDS):
                tried = [self._try(layers) for layers in self._proposed()]
                if not any(tried):
                    break
        with self.progress.stage("time the fastest"):
            best = self._decided()
        return Chosen(best.layers, self._costs(), best.ratio, self._first, len(self._tried))

    # --- guesses -------------------------------------------------------------------------------

    def _guessed(self) -> Fit:
        """Guesses in shares of the float model's time, and that time as the first equation."""
        guess = self.regions.guess(self.table)
        floats = self.regions.all_float
        whole = sum(count * guess[part] for part, count in floats.items()) or 1.0
        scale = (1 - _CALL_SHARE) / whole
        shares = {part: scale * time for part, time in guess.items()}
        self._scale = scale
        fit = Fit({**shares, CALL: _CALL_SHARE}, 1.0)
        fit.add(floats, 1.0, LOADS)
        return fit

    def _by_guesses(self) -> Chosen:
        solved = self._fit.solve()
        self._whole = (1e-3 if self.table.is_time else 1.0) / self._scale
        plan = self.leave_float(cheapest(self.regions, solved))
        before = _sum(self.regions.parts(self.leave_float(frozenset())), solved)
        is_worth = _sum(self.regions.parts(plan), solved) <= before * (1 - WORTH)
        layers = self.regions.float_layers(plan) if is_worth else frozenset()
        return Chosen(layers, self._costs(), None, None)

    # --- plans to try --------------------------------------------------------------------------

    def _designed(self) -> Iterator[frozenset[str]]:
        """Each kind of layer that could save time as float, those that could save most first.

        Where the plan as it is may be slower than float, ends of the model as well.
        """
        kinds = self._kinds
        solved = self._fit.solve()
        savings = {
            first: len(layers)
            * (
                solved.time(f"integer {first}") * (1 + BENEFIT)
                - solved.time(f"float {first}") * (1 - BENEFIT)
            )
            for first, layers in kinds.items()
        }
        least = STAKE * min(self._first.value, 1.0)
        for first in sorted(kinds, key=lambda k: -savings[k]):
            if savings[first] >= least:
                yield kinds[first]
        if self._is_faster:
            return
        names = [group.name for group in self.regions.groups]
        for quarter in (1, 2, 3):
            cut = len(names) * quarter // 4
            yield frozenset(names[:cut])
            yield frozenset(names[cut:])

    @property
    def _first(self) -> Ratio:
        """Of the plan as it is."""
        return self._tried[frozenset()].ratio

    @property
    def _is_faster(self) -> bool:
        """Whether the plan as it is is surely faster than float: then only what pays is tried."""
        return self._first.high < 1.0

    def _proposed(self) -> Iterator[frozenset[str]]:
        """The cheapest divisions by all that is known now, if they look faster than any tried.

        While the plan as it is may be slower than float, more is tried: divisions that are cheapest
        if layers take more or less as float, and the best plan with one kind of layer changed.
        """
        solved = self._fit.solve()
        best = min(self._tried.values(), key=lambda one: one.ratio.high)

        def expected(layers: frozenset[str]) -> float:
            return _sum(self.regions.parts(self.leave_float(layers)), solved)

        for caution in CAUTIONS:
            layers = cheapest(self.regions, solved, caution=caution)
            if layers in self._tried:
                continue
            explores = caution and not self._is_faster
            if explores or expected(layers) <= best.ratio.high * (1 - WORTH):
                yield layers
        if not self._is_faster:
            kinds = self._kinds.values()
            changed = {best.layers | kind for kind in kinds} | {
                best.layers - kind for kind in kinds
            }
            changed -= set(self._tried)
            yield from sorted(changed, key=lambda one: (expected(one), sorted(one)))[:NEIGHBOURS]

    @cached_property
    def _kinds(self) -> dict[str, frozenset[str]]:
        """First layer of a kind -> all that are equal to it."""
        found: dict[str, list[str]] = {}
        for layer, first in self.regions.first_of.items():
            found.setdefault(first, []).append(layer)
        return {first: frozenset(layers) for first, layers in found.items()}

    def _try(self, layers: frozenset[str]) -> bool:
        """Time a plan; whether it is one that was not tried before."""
        assert self.watch is not None
        if layers in self._tried or (self._tried and not self._has_time()):
            return False
        plan = self.leave_float(layers)
        effective = self.regions.float_layers(plan)
        if effective in self._tried:
            return False
        latency = self.watch.compare({"integer": self.lower(plan)}, STRETCH)
        (ratio,) = latency.ratios
        self._whole = self._whole or latency.timings[0].median_ms
        error = max((ratio.high - ratio.low) / 3.92, LOADS * ratio.value)
        self._fit.add(self.regions.parts(plan), ratio.value, error)
        self._tried[effective] = Tried(plan, effective, ratio, self._integer_work(effective))
        self._counter.advance()
        return True

    def _has_time(self) -> bool:
        return len(self._tried) < MOST_PLANS and self.budget.left() > 0

    def _integer_work(self, layers: frozenset[str]) -> float:
        macs = sum(group.macs for group in self.regions.groups)
        kept = sum(group.macs for group in self.regions.groups if group.name not in layers)
        return kept / macs if macs else float(len(layers) < len(self.regions.groups))

    # --- the decision --------------------------------------------------------------------------

    def _decided(self) -> Tried:
        """The finalists timed again; where all of them are slower than float, everything float."""
        integer = [one for one in self._tried.values() if one.integer_work > 0]
        finalists = [self._again(one) for one in _finalists(integer)]
        fastest = min(finalists, key=lambda one: one.ratio.value)
        even = [one for one in finalists if _is_even(one, fastest) and _is_sure(one.ratio)]
        best = max(even, key=lambda one: (one.integer_work, -len(one.layers)), default=fastest)
        if best.ratio.verdict == "slower":
            everything = frozenset(group.name for group in self.regions.groups)
            plan = self.leave_float(everything)
            layers = self.regions.float_layers(plan)
            best = self._again(Tried(plan, layers, best.ratio, self._integer_work(layers)))
        return best

    def _again(self, one: Tried) -> Tried:
        assert self.watch is not None
        data = {"integer": self.lower(one.plan)}
        ratios: list[Ratio] = []
        floats: list[float] = []
        for _ in range(LAST_LOADS):
            self.watch.reload()
            latency = self.watch.compare(data, AT_LAST)
            ratios += latency.ratios
            floats.append(latency.timings[0].median_ms)
        self._whole = median(floats)
        return replace(one, ratio=_joined(ratios))

    def _costs(self) -> dict[str, NodeCost]:
        """What every layer takes; equal ones have the figures of the first."""
        counted = self.watch is None and not self.table.is_time
        solved, found = self._fit.solve(), {}
        for layer, first in self.regions.first_of.items():
            floats, integers = f"float {first}", f"integer {first}"
            _, deviation = solved.difference(integers, floats)
            found[layer] = NodeCost(
                self._figure(solved.time(floats)),
                self._figure(solved.time(integers)),
                self._figure(1.96 * deviation),
                measured=self.watch is not None,
                like="" if first == layer else first,
                unit="instructions" if counted else "ms",
            )
        return found

    def _figure(self, share: float) -> float:
        """A share of what the float model takes, with the digits that a plan keeps."""
        return float(f"{self._whole * share:.4g}")


def _joined(ratios: Sequence[Ratio]) -> Ratio:
    """Ratios of several loads as one: the median, within what all of them and their noise say."""
    values = [ratio.value for ratio in ratios]
    return Ratio(
        name=ratios[0].name,
        value=median(values),
        low=min(median(ratio.low for ratio in ratios), *values),
        high=max(median(ratio.high for ratio in ratios), *values),
    )


def _sum(parts: Parts, solved: Solved) -> float:
    return sum(count * solved.time(part) for part, count in parts.items())


def _finalists(tried: Sequence[Tried]) -> list[Tried]:
    """The fastest ones, and of those that may be as fast the ones with most work in integers.

    By their times, and by the upper ends of their intervals: a run that was disturbed says little.
    """
    by_time = sorted(tried, key=lambda one: one.ratio.value)
    surely = min(tried, key=lambda one: one.ratio.high)
    even = [one for one in tried if _is_even(one, surely)]
    by_work = sorted(even, key=lambda one: (-one.integer_work, one.ratio.value))
    chosen = (*by_time[:FINALISTS], surely, *by_work[:FINALISTS])
    return list({one.layers: one for one in chosen}.values())


def _is_sure(ratio: Ratio) -> bool:
    """Whether a plan that is not the fastest stays faster than float when it is loaded again."""
    return ratio.high < 1.0 and ratio.value <= 1.0 - SURE


def _is_even(one: Tried, fastest: Tried) -> bool:
    """Whether it may be as fast as the fastest one: their intervals overlap, or nearly."""
    return one.ratio.low <= max(fastest.ratio.high, fastest.ratio.value * (1 + EVEN))
