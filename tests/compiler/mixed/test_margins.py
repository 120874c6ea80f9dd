"""An expected loss is what would be counted on very many rows, with far less chance in it."""

import numpy as np
import pytest

from qcompile.compiler.mixed.margins import Estimate, expected, ranked, temperature


def logits(rows: int, classes: int, seed: int, sharp: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and the right classes, drawn by their Softmax: the scores are as sure as they say."""
    rng = np.random.default_rng(seed)
    scores = sharp * rng.normal(size=(rows, classes))
    drawn = scores + rng.gumbel(size=scores.shape)
    return scores, drawn.argmax(axis=1)


def noisy(scores: np.ndarray, noise: float, shrink: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (1 - shrink) * scores + noise * rng.normal(size=scores.shape)


def counted(scores: np.ndarray, labels: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Points of agreement and of accuracy that are lost."""
    a, b = scores.argmax(axis=1), found.argmax(axis=1)
    return 100 * float(np.mean(a != b)), 100 * float(np.mean(a == labels) - np.mean(b == labels))


@pytest.mark.parametrize(("noise", "shrink"), [(0.1, 0.0), (0.3, 0.0), (1.0, 0.2), (2.0, 0.5)])
@pytest.mark.parametrize("classes", [2, 10, 200])
def test_it_is_near_what_very_many_rows_lose(noise: float, shrink: float, classes: int) -> None:
    many, labels = logits(100_000 if classes < 200 else 20_000, classes, 1)
    changes, drop = counted(many, labels, noisy(many, noise, shrink, 2))
    few, few_labels = logits(200, classes, 3)
    floats, tested = ranked(few, few_labels), np.arange(60)
    found = noisy(few[:60], noise, shrink, 4)
    agreement = expected(floats, tested, found, by_chance=False)
    accuracy = expected(floats, tested, found, by_chance=True)
    assert not agreement.counted
    for estimate, truth in ((agreement, changes), (accuracy, drop)):
        assert estimate.low is not None
        assert estimate.high is not None
        # The interval is one of 95 %, and even many rows leave some chance in the truth.
        slack = (estimate.high - estimate.low) / 4 + 200 * (changes / 100 / len(many)) ** 0.5
        assert estimate.low - slack <= truth <= estimate.high + slack


def test_it_spreads_less_than_counting() -> None:
    truth: list[float] = []
    smooth: list[float] = []
    for seed in range(40):
        scores, labels = logits(125, 20, seed)
        found = noisy(scores, 0.1, 0.0, seed + 1000)
        estimate = expected(ranked(scores, labels), np.arange(60), found[:60], by_chance=True)
        smooth.append(estimate.points)
        truth.append(counted(scores[:60], labels[:60], found[:60])[1])
    assert np.std(smooth) < np.std(truth) / 4


def test_no_error_loses_nothing() -> None:
    scores, labels = logits(50, 10, 7)
    estimate = expected(ranked(scores, labels), np.arange(20), scores[:20], by_chance=False)
    assert estimate == Estimate(0.0, 0.0, 0.0)


def test_equal_scores_are_decided_as_they_are_counted() -> None:
    scores, labels = logits(200, 4, 8)
    flat = np.zeros((50, 4))
    estimate = expected(ranked(scores, labels), np.arange(50), flat, by_chance=False)
    assert estimate.points == pytest.approx(75, abs=10), "the lower class wins"


def test_what_margins_cannot_know_is_counted() -> None:
    """Rows of one kind are broken altogether: that is no error that any other row could have."""
    scores, labels = logits(200, 10, 9, sharp=6.0)
    found = scores[:60].copy()
    broken = scores[:60].argmax(axis=1) < 3
    found[broken] = -scores[:60][broken]
    estimate = expected(ranked(scores, labels), np.arange(60), found, by_chance=False)
    share = 100 * broken.mean()
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low <= share <= estimate.high


def test_temperature() -> None:
    scores, labels = logits(20_000, 10, 5)
    assert temperature(scores, labels) == pytest.approx(1.0, rel=0.05)
    assert temperature(2 * scores, labels) == pytest.approx(2.0, rel=0.05)


def test_classes_out_of_sight_and_numbers_that_are_none() -> None:
    scores, labels = logits(30, 500, 6)
    found = scores[:10].copy()
    found[:, :] = 0.0
    found[np.arange(10), scores[:10].argmin(axis=1)] = 50.0
    found[0, 0] = np.nan
    estimate = expected(ranked(scores, labels), np.arange(10), found, by_chance=False)
    assert estimate.points > 90
