"""Moments of values that nobody has seen, against a million numbers drawn from what they say."""

import numpy as np
import pytest

from qcompile.passes.plan import moments as m

RNG = np.random.default_rng(0)
MEAN, DEVIATION = np.array([0.0, 1.5, -2.0]), np.array([1.0, 0.5, 3.0])
X = m.normal(MEAN, DEVIATION)
DRAWN = MEAN + DEVIATION * RNG.normal(size=(300_000, 3))


def agree(found: m.Moments, drawn: np.ndarray) -> None:
    assert found.mean == pytest.approx(drawn.mean(axis=0), abs=0.02)
    assert found.deviation == pytest.approx(drawn.std(axis=0), abs=0.02)
    assert np.all(found.low <= drawn.min(axis=0))
    assert np.all(found.high >= drawn.max(axis=0))


def test_a_normal_channel_reaches_so_far() -> None:
    agree(X, DRAWN)
    assert X.range == (-2 - 3 * m.REACH, -2 + 3 * m.REACH)
    assert not X.bounded


@pytest.mark.parametrize("f", [np.tanh, lambda x: np.maximum(x, 0), lambda x: np.clip(x, 0, 6)])
def test_elementwise_functions(f: m.Function) -> None:
    agree(m.apply(f, X), f(DRAWN))


def test_what_has_ends_is_bounded() -> None:
    relu = m.apply(lambda x: np.maximum(x, 0), X, low=0.0)
    assert (relu.bounded, relu.range[0]) == (False, 0.0)
    assert m.apply(lambda x: np.clip(x, 0, 6), X, low=0.0, high=6.0).bounded
    assert m.between(np.zeros(1), np.ones(1)).bounded


def test_sums_and_factors() -> None:
    other = RNG.normal(size=DRAWN.shape)
    agree(m.added(X, m.normal(np.zeros(3), np.ones(3))), DRAWN + other)
    factor = np.array([2.0, -1.0, 0.5])
    agree(m.scaled(X, factor, np.ones(1)), factor * DRAWN + 1)
    both = m.added(m.between(np.zeros(1), np.ones(1)), m.between(np.zeros(1), np.ones(1)))
    assert both.range == (0, 2)


def test_one_channel_for_all() -> None:
    mixed = DRAWN.reshape(-1, 1)
    agree(m.collapsed(X), mixed)
    assert m.collapsed(X).mean.shape == (1,)
    wide = m.widened(m.collapsed(X), 4)
    assert wide.low.shape == (4,)
    assert m.joined([X, wide]).mean.shape == (7,)


def test_a_mean_over_positions_stays_within_and_shrinks() -> None:
    pooled = m.averaged(X, 16)
    assert pooled.deviation == pytest.approx(DEVIATION / 2)
    assert np.all(pooled.low >= X.low)
    assert m.averaged(X, 1).range == X.range
