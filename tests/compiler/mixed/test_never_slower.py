"""The search by time, with a clock that knows what layers and borders take."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from qcompile.compiler.mixed.never_slower import LAST_LOADS, Chosen, NeverSlower
from qcompile.compiler.mixed.region_costs import CALL
from qcompile.compiler.progress import Silent
from qcompile.compiler.report.latency import Latency
from qcompile.compiler.verify.latency import summarize
from qcompile.core.budget import Budget
from qcompile.core.plan import QuantPlan
from qcompile.targets.cost_table import BORDER, OTHER, ROUGH, CostTable, Curve
from qcompile.targets.devices.device import Timed, TimingPlan
from tests.compiler.mixed.networks import planned, total

PLANNED = planned()
REGIONS = PLANNED.regions
LAYERS = [group.name for group in REGIONS.groups]
PARTS = sorted(REGIONS.guess(ROUGH))


@dataclass
class Clock:
    """Times what an artefact says it is made of, with noise."""

    times: Mapping[str, float]
    noise: float = 0.003
    where: str = "a clock"
    timed: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def compare(
        self,
        artefacts: Mapping[str, bytes],
        stretch: TimingPlan,
        precision: float | None = None,
    ) -> Latency:
        self.timed += 1
        seconds = {"float": total(REGIONS.all_float, self.times)}
        seconds |= {n: total(json.loads(data), self.times) for n, data in artefacts.items()}
        rows = {n: s * (1 + self.noise * self.rng.normal(size=60)) for n, s in seconds.items()}
        return summarize(Timed(rows, rows))

    def reload(self) -> None:
        pass


def lower(plan: QuantPlan) -> bytes:
    return json.dumps(REGIONS.parts(plan)).encode()


def times(borders: float = 0.05, **changed: float) -> dict[str, float]:
    """Integer layers take half the time of float ones, but for those that are named by number."""
    made = {CALL: 0.2}
    for part in PARTS:
        if part.startswith("float"):
            made[part] = 1.0
        elif part.startswith("integer"):
            made[part] = 0.5
        elif part.startswith(BORDER):
            made[part] = borders
    for number, time in changed.items():
        made[f"integer {LAYERS[int(number[1:])]}"] = time
    return made


def search(clock: Clock | None, budget: Budget | None = None, table: CostTable = ROUGH) -> Chosen:
    return NeverSlower(
        REGIONS, lower, PLANNED.leave_float, table, clock, budget or Budget(), Silent()
    ).run()


def test_what_is_faster_as_integers_stays_so() -> None:
    found = search(Clock(times()))
    assert found.layers == frozenset()
    assert found.ratio is not None
    assert found.ratio.high < 0.6
    assert set(found.costs) == set(LAYERS)


@pytest.mark.parametrize("slow", [0, 4])
def test_what_is_slower_as_integers_becomes_float(slow: int) -> None:
    found = search(Clock(times(**{f"n{slow}": 3.0})))
    # the sum and the pool around the fifth are islands then, and follow
    assert {LAYERS[slow]} == found.layers - {LAYERS[3], LAYERS[5]}
    cost = found.costs[LAYERS[slow]]
    assert cost.integers - cost.floats > cost.error > 0
    assert cost.measured


def test_borders_can_cost_more_than_a_layer_loses() -> None:
    found = search(Clock(times(borders=0.6, n4=1.5)))
    assert LAYERS[4] not in found.layers


def test_equal_layers_are_tried_together_and_share_their_figures() -> None:
    found = search(Clock(times(borders=0.01, n1=2.0)))
    assert {LAYERS[1], LAYERS[2]} <= found.layers
    first, second = found.costs[LAYERS[1]], found.costs[LAYERS[2]]
    assert (first.like, second.like) == ("", LAYERS[1])
    assert first.floats == second.floats


def test_a_tie_goes_to_integer() -> None:
    found = search(Clock(times(borders=0.0, n4=0.98), noise=0.02))
    assert found.layers == frozenset()


def test_where_nothing_pays_everything_is_float_at_last() -> None:
    clock = Clock(times(borders=0.5, n0=4.0, n1=4.0, n3=4.0, n4=4.0, n5=4.0))
    found = search(clock)
    assert found.layers == frozenset(LAYERS)
    assert found.ratio is not None
    assert found.ratio.verdict == "no difference"


def test_slow_all_over_but_for_one_layer_keeps_that_one() -> None:
    clock = Clock(times(borders=0.1, n0=3.0, n1=3.0, n3=3.0, n4=0.2, n5=3.0))
    found = search(clock)
    assert LAYERS[4] not in found.layers
    assert found.ratio is not None
    assert found.ratio.high < 1.0


def test_without_a_clock_the_table_decides() -> None:
    for integer, wanted in ((0.5, frozenset()), (3.0, frozenset(LAYERS))):
        curve = Curve((1.0, 1e6), (1.0, 1.0), (integer, integer))
        border = Curve((1.0, 1e6), (0.0, 0.0), (0.1, 0.1))
        table = CostTable("t", "made up", {OTHER: curve, BORDER: border})
        found = search(None, table=table)
        assert (found.ratio, found.timed) == (None, 0)
        assert not any(cost.measured for cost in found.costs.values())
        assert found.layers == wanted


def test_without_a_clock_a_hundredth_is_not_worth_a_change() -> None:
    for integer, wanted in ((1.005, frozenset()), (1.05, frozenset(LAYERS))):
        curve = Curve((1.0, 1e6), (1.0, 1.0), (integer, integer))
        border = Curve((1.0, 1e6), (0.0, 0.0), (1e-6, 1e-6))
        found = search(None, table=CostTable("t", "made up", {OTHER: curve, BORDER: border}))
        assert found.layers == wanted


def test_a_table_of_instructions_gives_figures_in_instructions() -> None:
    curve = Curve((1.0, 1e6), (1e6, 1e6), (4e5, 4e5))
    border = Curve((1.0, 1e6), (0.0, 0.0), (1e3, 1e3))
    kinds = {OTHER: curve, BORDER: border}
    found = search(None, table=CostTable("t", "made up", kinds, "instructions (emulated)"))
    assert {cost.unit for cost in found.costs.values()} == {"instructions"}
    assert found.costs[LAYERS[0]].floats == pytest.approx(1e6, rel=0.1)
    assert found.costs[LAYERS[0]].integers == pytest.approx(4e5, rel=0.1)
    timed = search(None, table=CostTable("t", "made up", kinds))
    assert {cost.unit for cost in timed.costs.values()} == {"ms"}
    assert timed.costs[LAYERS[0]].floats == pytest.approx(1e3, rel=0.1), "microseconds before"
    by_clock = search(Clock(times()), table=CostTable("t", "", kinds, "instructions (emulated)"))
    assert {cost.unit for cost in by_clock.costs.values()} == {"ms"}


def test_a_spent_budget_times_the_plan_and_no_other() -> None:
    clock = Clock(times(n0=3.0))
    found = search(clock, Budget(0.0))
    assert found.layers == frozenset()
    assert clock.timed == 1 + LAST_LOADS
