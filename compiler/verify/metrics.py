"""Figures of closeness, summed up sample by sample: no output outlives the sample it belongs to.

What one sample contributes is a small record of terms, a pure function of its outputs; adding the
terms up along a fixed tree (``TreeSum``) makes every figure independent of threads, to the byte.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from qcompile.compiler.report.accuracy import Labelled, OutputQuality, Share
from qcompile.compiler.verify.spread import chance, counted_spread
from qcompile.core.statistics.base import TreeSum

_CHUNK: Final = 1 << 18
"""Elements that are widened to float64 at a time."""
_Z95: Final = 1.959963984540054
"""Two-sided 95 % point of the normal distribution."""


@dataclass(frozen=True)
class OutputTerms:
    """What one sample contributes to the figures of one output."""

    sums: np.ndarray
    """float64 (4,): of y*y, (y-y')*(y-y'), y*y', y'*y' over the elements where y is finite."""
    worst: float
    elements: int
    equal: int
    real: bool


def output_terms(reference: np.ndarray, candidate: np.ndarray) -> OutputTerms:
    """Compare one output of one sample.

    An element that is infinite or NaN in the reference counts as nothing when the candidate has
    the same there; in every other case an element that is not finite is an infinite error.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes {reference.shape} and {candidate.shape} differ")
    real = np.issubdtype(reference.dtype, np.inexact)
    flat, other = reference.reshape(-1), candidate.reshape(-1)
    if not real:
        return OutputTerms(np.zeros(4), 0.0, flat.size, int(np.count_nonzero(flat == other)), real)
    sums, worst, equal = np.zeros(4), 0.0, 0
    for start in range(0, flat.size, _CHUNK):
        part, part_worst, part_equal = _real_terms(
            flat[start : start + _CHUNK].astype(np.float64),
            other[start : start + _CHUNK].astype(np.float64),
        )
        sums, worst, equal = sums + part, max(worst, part_worst), equal + part_equal
    return OutputTerms(sums, worst, flat.size, equal, real)


def energies(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Energy of a float output and of its error, float64 (2,): ``output_terms(...).sums[:2]``.

    A third of its time: squares are float32, their sums float64.
    """
    if reference.dtype != np.float32 or reference.dtype != candidate.dtype:
        return output_terms(reference, candidate).sums[:2]
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.asarray(reference - candidate)  # numpy makes a number of a scalar's
        both = np.square(reference), np.square(error, out=error)
    found = np.array([x.sum(dtype=np.float64) for x in both])
    # Squares leave the range of float32 below 1e-19 and above 1e19.
    low, high = 1e-25 * reference.size, 1e30
    is_equal = found[1] == 0 and np.array_equal(reference, candidate)
    if low < found[0] < high and (is_equal or low < found[1] < high):
        return found
    return output_terms(reference, candidate).sums[:2]


def _real_terms(y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, float, int]:
    same = (y == z) | (np.isnan(y) & np.isnan(z))
    finite = np.isfinite(y) & np.isfinite(z)
    equal = int(np.count_nonzero(same))
    broken = bool(np.any(~same & ~finite))
    if not finite.all():
        y, z = y[finite], z[finite]
    error = y - z
    sums = np.array([(y * y).sum(), (error * error).sum(), (y * z).sum(), (z * z).sum()])
    worst = float(np.abs(error).max(initial=0.0))
    if broken:
        sums[1], worst = math.inf, math.inf
    return sums, worst, equal


class OutputScore:
    """Sums up the terms of one output."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._sums = TreeSum()
        self._worst = 0.0
        self._elements = 0
        self._equal = 0
        self._real = True

    def add(self, terms: OutputTerms, index: int) -> None:
        """Take in what sample number ``index`` contributes."""
        self._sums.add(terms.sums, index)
        self._worst = max(self._worst, terms.worst)
        self._elements += terms.elements
        self._equal += terms.equal
        self._real = terms.real

    def result(self) -> OutputQuality:
        """The figures of all samples so far."""
        identical = self._equal == self._elements
        if not self._real:
            share = self._equal / self._elements if self._elements else 1.0
            return OutputQuality(name=self._name, identical=identical, equal=share)
        total = self._sums.total()
        signal, noise, dot, energy = (0.0,) * 4 if total is None else map(float, total)
        return OutputQuality(
            name=self._name,
            identical=identical,
            sqnr_db=sqnr_db(signal, noise),
            cosine=dot / math.sqrt(signal * energy) if signal * energy > 0 else None,
            worst=self._worst,
        )


def sqnr_db(signal: float, noise: float) -> float:
    """Signal to quantization noise in dB from the two energies; infinite without noise.

    Without any signal (a float output that is all zero) noise is all there is: minus infinity.
    """
    if noise == 0:
        return math.inf
    if signal == 0 or math.isinf(noise):
        return -math.inf
    return 10.0 * math.log10(signal / noise)


def sqnr_between(reference: np.ndarray, candidate: np.ndarray) -> float:
    """SQNR in dB of one array against another of the same shape."""
    sums = output_terms(np.asarray(reference, np.float64), np.asarray(candidate, np.float64)).sums
    return sqnr_db(float(sums[0]), float(sums[1]))


@dataclass(frozen=True)
class ClassTerms:
    """What one sample contributes to the figures of a classifier: counts over its rows."""

    rows: int
    agree: int
    classes: int
    hits: tuple[tuple[int, int, int, int], ...] = ()
    """For each of ``DEPTHS``: rows the float model got right, the artefact, only the one, only the
    other. Empty without labels."""


DEPTHS: Final = (1, 5)
"""The k of the top-k metrics; top-5 is reported from ten classes on."""


def class_terms(
    reference: np.ndarray, candidate: np.ndarray, labels: np.ndarray | None
) -> ClassTerms:
    """Compare the class scores of one sample.

    Args:
        reference: scores of the float model, (rows, classes).
        candidate: scores of the artefact, of the same shape.
        labels: class numbers (rows,), if known.
    """
    first, second = _no_nan(reference), _no_nan(candidate)
    agree = int(np.count_nonzero(first.argmax(axis=1) == second.argmax(axis=1)))
    rows, classes = reference.shape
    if labels is None:
        return ClassTerms(rows, agree, classes)
    a, b = _rank(first, labels), _rank(second, labels)
    hits = tuple(_hits(a < depth, b < depth) for depth in DEPTHS)
    return ClassTerms(rows, agree, classes, hits)


def _hits(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int, int]:
    return int(a.sum()), int(b.sum()), int((a & ~b).sum()), int((b & ~a).sum())


def _no_nan(scores: np.ndarray) -> np.ndarray:
    """Scores in which a class without a number can never win."""
    return np.where(np.isnan(scores), -np.inf, scores)


def _rank(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before the label; of equal scores the lower class stands first.

    A row without one finite score puts every class behind all others.
    """
    own = scores[np.arange(len(scores)), labels][:, None]
    before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < labels[:, None]))
    hopeless = np.isneginf(own[:, 0])
    rank: np.ndarray = np.where(hopeless, scores.shape[1], before.sum(axis=1))
    return rank


class ClassScore:
    """Sums up the terms of a classifier's output."""

    def __init__(self) -> None:
        self._rows = 0
        self._agree = 0
        self._classes = 0
        self._hits = np.zeros((len(DEPTHS), 4), np.int64)
        self._labelled = False

    def add(self, terms: ClassTerms) -> None:
        """Take in what one sample contributes; counts need no order."""
        self._rows += terms.rows
        self._agree += terms.agree
        self._classes = terms.classes
        if terms.hits:
            self._labelled = True
            self._hits += np.array(terms.hits, np.int64)

    def agreement(self) -> Share:
        """Share of rows in which both models choose the same class."""
        return wilson(self._agree, self._rows)

    def metrics(self) -> tuple[Labelled, ...]:
        """Top-1, and top-5 where there are ten classes or more; empty without labels."""
        if not self._labelled or not self._rows:
            return ()
        return tuple(
            self._labelled_metric(depth, *map(int, hits))
            for depth, hits in zip(DEPTHS, self._hits, strict=True)
            if self._classes >= 2 * depth
        )

    def _labelled_metric(self, depth: int, a: int, b: int, lost: int, won: int) -> Labelled:
        low, high = counted_spread(lost, won, self._rows)
        return Labelled(
            metric=f"top-{depth}",
            float_value=a / self._rows,
            artefact_value=b / self._rows,
            lost=lost,
            won=won,
            drop_low=low,
            drop_high=high,
            chance=chance(lost, won),
        )


def wilson(hits: int, total: int) -> Share:
    """A counted share and its 95 % interval.

    Wilson 1927: ``(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)``; it stays inside
    [0, 1] and holds for shares near 1, where the textbook interval has no width.
    """
    if total == 0:
        return Share(hits=0, total=0, value=0.0, low=0.0, high=1.0)
    p, z2 = hits / total, _Z95 * _Z95
    centre = p + z2 / (2 * total)
    half = _Z95 * math.sqrt(p * (1 - p) / total + z2 / (4 * total * total))
    scale = 1 + z2 / total
    low = 0.0 if hits == 0 else (centre - half) / scale
    high = 1.0 if hits == total else (centre + half) / scale
    return Share(hits=hits, total=total, value=p, low=low, high=high)
