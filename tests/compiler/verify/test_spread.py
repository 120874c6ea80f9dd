"""Intervals of differences hold what they promise, and the same counts give the same ends."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.compiler.verify.spread import BLOCKS, chance, counted_spread, paired_spread


def test_the_interval_of_counts_holds_the_difference_and_has_the_width_of_the_textbook() -> None:
    low, high = counted_spread(40, 20, 1000)
    assert low < 2.0 < high
    # Wald's interval for paired shares: 1.96 * sqrt((b + c) - (b - c)^2 / n) / n
    width = 2 * 1.96 * math.sqrt(60 - 400 / 1000) / 10
    assert high - low == pytest.approx(width, rel=0.1)


def test_no_difference_seen_is_no_proof_that_there_is_none() -> None:
    low, high = counted_spread(0, 0, 100)
    assert low < 0 < high
    assert counted_spread(0, 0, 10_000)[1] < high / 10


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    drawn = rng.multinomial(400, [0.05, 0.02, 0.93], size=200)
    ends = [counted_spread(int(b), int(c), 400) for b, c, _ in drawn]
    assert np.mean([low <= 3.0 <= high for low, high in ends]) >= 0.9


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 500))
def test_the_interval_turns_with_the_sides(lost: int, won: int, same: int) -> None:
    rows = lost + won + same + 1
    low, high = counted_spread(lost, won, rows)
    assert low <= high
    assert counted_spread(lost, won, rows) == (low, high)
    turned = counted_spread(won, lost, rows)
    assert turned[0] == pytest.approx(-high, abs=0.15 * (high - low) + 1e-9)


@pytest.mark.parametrize("count", [50, BLOCKS + 700])
def test_paired_scores(count: int) -> None:
    rng = np.random.default_rng(2)
    common, noise = rng.normal(size=count), rng.normal(scale=0.1, size=count)
    low, high = paired_spread(common, common - 0.05 + noise)
    difference = 0.05 - noise.mean()
    assert low < difference < high
    assert high - low == pytest.approx(2 * 1.96 * 0.1 / math.sqrt(count), rel=0.2)
    assert paired_spread(common, common) == (0, 0)


def test_mcnemar() -> None:
    assert chance(0, 0) == 1
    assert chance(5, 5) == 1
    assert chance(5, 0) == 2 / 32
    assert chance(8, 1) == 2 * (1 + 9) / 512 == chance(1, 8)
    assert chance(501, 502) == pytest.approx(1, abs=0.01)
    # where the exact sum gives way to the normal curve there is no step
    exact = 2 * sum(math.comb(999, k) for k in range(461)) / 2**999
    assert chance(539, 460) == pytest.approx(exact)
    assert chance(541, 462) == pytest.approx(exact, rel=0.02)
