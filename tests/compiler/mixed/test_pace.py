"""No trial is begun that would not end in time, by a clock that the test turns."""

from collections.abc import Sequence

import pytest

from qcompile.compiler.mixed.pace import Pace
from qcompile.core.budget import Budget


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("costs", [[1.0] * 50, [3.0, 1.0, 4.0, 2.0] * 10, [0.1, 9.0, 0.1, 0.1]])
def test_trials_end_in_time(costs: Sequence[float]) -> None:
    clock = Clock()
    pace = Pace(Budget(30.0, clock), clock)
    longest = 0.0
    for cost in costs:
        if not pace.fits("trial"):
            break
        with pace.trial("trial"):
            clock.now += cost
        longest = max(longest, cost)
    # A trial may be longer than all before it; otherwise the budget holds, and is used up.
    assert clock.now - 100.0 <= 30.0
    assert clock.now - 100.0 > 30.0 - longest or sum(costs) < 30.0


def test_kinds_are_apart() -> None:
    clock = Clock()
    pace = Pace(Budget(10.0, clock), clock)
    with pace.trial("long"):
        clock.now += 6.0
    assert not pace.fits("long")
    assert pace.fits("short")
    pace.expect("short", 1.5)
    assert pace.fits("short", 2)
    assert not pace.fits("short", 3)
    assert not pace.fits("short", 2, share=0.5)


def test_without_a_budget_no_clock_decides() -> None:
    pace = Pace(Budget())
    pace.expect("trial", 1e9)
    assert pace.fits("trial", 1000)


def test_a_budget_that_is_spent_takes_nothing() -> None:
    clock = Clock()
    pace = Pace(Budget(1.0, clock), clock)
    clock.now += 2.0
    assert not pace.fits("new")
