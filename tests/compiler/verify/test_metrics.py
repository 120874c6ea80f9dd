"""Figures against their definitions and against published tables."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.compiler.report.accuracy import Labelled, OutputQuality
from qcompile.compiler.verify import metrics
from qcompile.compiler.verify.metrics import (
    ClassScore,
    OutputScore,
    class_terms,
    energies,
    output_terms,
    sqnr_between,
    sqnr_db,
    wilson,
)

RNG = np.random.default_rng(0)


def score(pairs: list[tuple[np.ndarray, np.ndarray]]) -> OutputQuality:
    total = OutputScore("y")
    for index, (a, b) in enumerate(pairs):
        total.add(output_terms(a, b), index)
    return total.result()


def test_sqnr_and_cosine_are_those_of_the_definition_over_all_samples() -> None:
    a = RNG.normal(size=(7, 3, 50)).astype(np.float32)
    b = a + RNG.normal(scale=1e-2, size=a.shape).astype(np.float32)
    quality = score([(x, y) for x, y in zip(a, b, strict=True)])
    y, z = a.astype(np.float64), b.astype(np.float64)
    assert quality.sqnr_db == pytest.approx(
        10 * math.log10((y**2).sum() / ((y - z) ** 2).sum()), abs=1e-9
    )
    assert quality.cosine == pytest.approx(
        (y * z).sum() / math.sqrt((y**2).sum() * (z**2).sum()), abs=1e-12
    )
    assert quality.worst == np.abs(y - z).max()
    assert not quality.identical


def test_sums_are_wide_enough_for_small_errors() -> None:
    """A float32 sum would lose one LSB in a million elements."""
    a = np.ones(1_000_000, np.float32)
    b = a.copy()
    b[7] = np.nextafter(np.float32(1), np.float32(2))
    error = (float(b[7]) - 1.0) ** 2
    assert sqnr_between(a, b) == pytest.approx(10 * math.log10(1e6 / error), abs=1e-9)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    a = RNG.normal(size=1000).astype(np.float32)
    b = a + np.float32(0.01)
    whole = sqnr_between(a, b)
    monkeypatch.setattr(metrics, "_CHUNK", 7)
    assert sqnr_between(a, b) == pytest.approx(whole, abs=1e-9)


def test_identical_outputs_are_called_so() -> None:
    a = np.arange(5, dtype=np.float32)
    quality = score([(a, a.copy()), (a * 2, a * 2)])
    assert (quality.identical, quality.sqnr_db, quality.worst) == (True, math.inf, 0.0)


def test_no_signal() -> None:
    zero = np.zeros(4, np.float32)
    assert score([(zero, zero)]).sqnr_db == math.inf
    broken = score([(zero, zero + 1)])
    assert (broken.sqnr_db, broken.cosine) == (-math.inf, None)


@pytest.mark.parametrize(
    ("reference", "candidate", "fine"),
    [
        ([1.0, -math.inf], [1.0, -math.inf], True),
        ([1.0, math.nan], [1.0, math.nan], True),
        ([1.0, -math.inf], [1.0, math.inf], False),
        ([1.0, 2.0], [1.0, math.nan], False),
        ([1.0, math.inf], [1.0, 3.0], False),
    ],
)
def test_numbers_that_are_not_finite(
    reference: list[float], candidate: list[float], fine: bool
) -> None:
    quality = score([(np.array(reference, np.float32), np.array(candidate, np.float32))])
    assert quality.identical is fine
    assert quality.sqnr_db == (math.inf if fine else -math.inf)


def test_integer_outputs_are_counted_not_measured() -> None:
    quality = score([(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]))])
    assert (quality.sqnr_db, quality.equal, quality.identical) == (None, 0.75, False)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes"):
        output_terms(np.zeros((2, 3)), np.zeros((3, 2)))


def test_the_sum_does_not_depend_on_the_order() -> None:
    a = RNG.normal(size=(33, 10)).astype(np.float32)
    b = (a + RNG.normal(scale=0.1, size=a.shape)).astype(np.float32)
    terms = [output_terms(x, y) for x, y in zip(a, b, strict=True)]
    forward, backward = OutputScore("y"), OutputScore("y")
    for index in range(33):
        forward.add(terms[index], index)
        backward.add(terms[32 - index], 32 - index)
    assert forward.result() == backward.result()


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(100.0, 1.0, 20.0), (1.0, 0.0, math.inf), (0.0, 1.0, -math.inf), (0.0, 0.0, math.inf)],
)
def test_sqnr_db(signal: float, noise: float, expected: float) -> None:
    assert sqnr_db(signal, noise) == expected


def classify(
    a: np.ndarray, b: np.ndarray, labels: np.ndarray | None
) -> tuple[float, tuple[Labelled, ...]]:
    total = ClassScore()
    for row in range(len(a)):
        part = None if labels is None else labels[row : row + 1]
        total.add(class_terms(a[row : row + 1], b[row : row + 1], part))
    return total.agreement().value, total.metrics()


def test_top_k_against_a_sort() -> None:
    a = RNG.normal(size=(200, 20)).astype(np.float32)
    b = (a + RNG.normal(scale=0.7, size=a.shape)).astype(np.float32)
    labels = RNG.integers(0, 20, 200)
    labels[:120] = a[:120].argmax(axis=1)
    agreement, (top1, top5) = classify(a, b, labels)
    right = [[lab in np.argsort(-row)[:k] for row, lab in zip(m, labels, strict=True)]
             for k in (1, 5) for m in (a, b)]  # fmt: skip
    assert agreement == np.mean(a.argmax(1) == b.argmax(1))
    values = [top1.float_value, top1.artefact_value, top5.float_value, top5.artefact_value]
    assert values == [sum(column) / 200 for column in right]
    assert top1.lost == np.sum(np.array(right[0]) & ~np.array(right[1]))
    assert top1.won - top1.lost == round(200 * (top1.artefact_value - top1.float_value))
    assert top1.drop_points == pytest.approx(100 * (np.mean(right[0]) - np.mean(right[1])))


def test_of_equal_scores_the_lower_class_wins_as_in_argmax() -> None:
    tied = np.array([[0.5, 0.5, 0.1]], np.float32)
    assert classify(tied, tied, np.array([0]))[1][0].float_value == 1.0
    assert classify(tied, tied, np.array([1]))[1][0].float_value == 0.0


def test_top_5_needs_ten_classes() -> None:
    few, many = np.eye(9, dtype=np.float32), np.eye(10, dtype=np.float32)
    assert [m.metric for m in classify(few, few, np.arange(9))[1]] == ["top-1"]
    assert [m.metric for m in classify(many, many, np.arange(10))[1]] == ["top-1", "top-5"]


def test_a_row_of_nan_is_never_right() -> None:
    good = np.array([[0.1, 0.9]], np.float32)
    broken = np.full((1, 2), math.nan, np.float32)
    agreement, (top1,) = classify(good, broken, np.array([1]))
    assert (agreement, top1.float_value, top1.artefact_value, top1.lost) == (0.0, 1.0, 0.0, 1)
    assert classify(broken, broken, np.array([0]))[1][0].artefact_value == 0.0


def test_without_labels_only_agreement() -> None:
    a = np.eye(3, dtype=np.float32)
    assert classify(a, a[[0, 2, 1]], None) == (1 / 3, ())


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [  # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_against_the_published_table(hits: int, total: int, low: float, high: float) -> None:
    share = wilson(hits, total)
    assert share.low == pytest.approx(low, abs=5e-5)
    assert share.high == pytest.approx(high, abs=5e-5)


@given(st.integers(1, 10_000), st.data())
def test_wilson_holds_the_share_and_stays_inside(total: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, total))
    share = wilson(hits, total)
    assert 0.0 <= share.low <= share.value <= share.high <= 1.0
    mirrored = wilson(total - hits, total)
    assert mirrored.low == pytest.approx(1 - share.high, abs=1e-12)


def test_wilson_of_nothing_says_nothing() -> None:
    share = wilson(0, 0)
    assert (share.low, share.high) == (0.0, 1.0)


@pytest.mark.parametrize("spread", [1e-30, 1e-12, 1.0, 1e6, 1e25])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-2, 1.0])
def test_energies_are_the_first_two_sums(spread: float, noise: float) -> None:
    """Where float32 squares would leave their range, the slow way is taken."""
    rng = np.random.default_rng(3)
    y = (spread * rng.normal(size=4000)).astype(np.float32)
    z = y + (spread * noise * rng.normal(size=4000)).astype(np.float32)
    expected = output_terms(y, z).sums[:2]
    np.testing.assert_allclose(energies(y, z), expected, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_energies_of_values_that_are_not_finite(bad: float) -> None:
    y = np.array([1, bad, 2], np.float32)
    np.testing.assert_array_equal(energies(y, y), output_terms(y, y).sums[:2])
    assert energies(y, np.zeros(3, np.float32))[1] == np.inf
    assert energies(np.zeros(3, np.float32), y)[1] == np.inf


def test_energies_of_a_scalar() -> None:
    found = energies(np.asarray(3.0, np.float32), np.asarray(2.0, np.float32))
    assert found.tolist() == [9.0, 1.0]
