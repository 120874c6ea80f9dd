"""A budget runs down with its clock, and its shares end no later than it does."""

import math

import pytest

from qcompile.core.budget import Budget


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_runs_down_with_the_clock():
    clock = Clock()
    budget = Budget(10.0, clock)
    assert (budget.left(), budget.spent, budget.is_spent) == (10.0, 0.0, False)
    clock.now += 4
    assert (budget.left(), budget.spent, budget.is_spent) == (6.0, 4.0, False)
    clock.now += 7
    assert (budget.left(), budget.spent, budget.is_spent) == (0.0, 11.0, True)


def test_without_a_limit_it_never_ends():
    clock = Clock()
    budget = Budget(None, clock)
    clock.now += 1e9
    assert budget.left() == math.inf
    assert not budget.is_spent
    assert budget.share(0.5).left() == math.inf


def test_a_share_starts_now_and_has_part_of_what_is_left():
    clock = Clock()
    budget = Budget(10.0, clock)
    clock.now += 4
    share = budget.share(0.5)
    assert (share.left(), share.spent) == (3.0, 0.0)
    clock.now += 3
    assert share.is_spent
    assert budget.left() == 3.0
    clock.now += 3
    assert budget.share(1.0).is_spent


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_a_share_is_a_fraction(fraction):
    with pytest.raises(ValueError, match="fraction"):
        Budget(1.0).share(fraction)


def test_nothing_or_less_is_spent_at_once():
    assert Budget(0.0).is_spent
    assert Budget(-1.0).is_spent
