"""Counts of a value's elements in bins of equal width, whatever the order of the samples."""

from math import floor, frexp
from typing import Self

import numpy as np

from qcompile.core.statistics.base import NotFiniteError

BINS = 4096
"""At most so many bins; the widest range of samples uses more than half of them."""
SMALLEST_EXPONENT = -110
"""Bins are never narrower than 2**-110, so that x / width stays in float32."""
FLAT_STEP = 17
"""Step through tensors that are not pictures: a prime, so that it visits every channel in turn."""


class Histogram:
    """A histogram whose bins are ``[k * 2**e, (k + 1) * 2**e)`` for whole ``k``.

    ``e`` is the smallest exponent with which ``BINS`` bins hold all elements. A power of two
    divides exactly and bins of one width nest in those of the next, so widening the bins while
    samples arrive gives the very counts that bins of the final width would have given. Elements
    that are exactly zero are counted a second time in ``zeros``: quantization never moves them.

    Args:
        every: look at about one element in so many where a tensor is large. Of pictures
            (rank 4, channels first) every s-th row and column is taken, s at most
            ``sqrt(every)``; of others every 17th element. An element taken counts for those
            skipped, so that samples of different shapes keep their weight. 1 takes all.
        enough: take at least so many elements of a sample (of each picture) if it has them.

    """

    def __init__(self, every: int = 16, enough: int = 4096) -> None:
        self.every = every
        self.enough = enough
        self._exponent = SMALLEST_EXPONENT
        self._first = 0
        self._counts = np.zeros(0, np.int64)
        self._zeros = 0

    @property
    def width(self) -> float:
        """Width of a bin."""
        return 2.0**self._exponent

    @property
    def edges(self) -> np.ndarray:
        """Left edges of the bins and, last, the right edge of the last one; float64, exact."""
        return np.arange(self._first, self._first + self._counts.size + 1) * self.width

    @property
    def counts(self) -> np.ndarray:
        """Weighted number of elements a bin, int64; the first and the last bin are not empty."""
        return self._counts

    @property
    def zeros(self) -> int:
        """Weighted number of elements that are exactly zero; they are in ``counts`` as well."""
        return self._zeros

    def grid(self, shape: tuple[int, ...]) -> int:
        """Step along rows and columns of a picture, or along all elements of any other shape."""
        if len(shape) != 4:
            size = int(np.prod(shape, dtype=np.int64))
            return (
                FLAT_STEP if self.every >= FLAT_STEP - 1 and size >= FLAT_STEP * self.enough else 1
            )
        _, channels, height, width = shape
        step = int(self.every**0.5)
        while step > 1 and channels * -(-height // step) * -(-width // step) < self.enough:
            step -= 1
        return step

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in a sample of any shape, also an empty one.

        Raises:
            NotFiniteError: an element looked at is NaN or infinite.

        """
        step = self.grid(sample.shape)
        if sample.ndim == 4:
            self.count(sample[:, :, ::step, ::step], step * step)
        else:
            self.count(sample.reshape(-1)[::step], step)

    def count(self, elements: np.ndarray, weight: int = 1) -> None:
        """Take in elements already chosen, each for ``weight``; order does not matter."""
        if elements.size == 0:
            return
        x = np.ascontiguousarray(elements, np.float32).reshape(-1)
        low, high = float(x.min()), float(x.max())
        if not np.isfinite(high - low):
            raise NotFiniteError(f"range {low} to {high}")
        self._fit(low, high)
        # float32 would lose the sign of tiny elements where dividing makes them denormal
        precise = np.float32 if self._exponent <= 0 else np.float64
        scaled = x * precise(2.0**-self._exponent)
        if low < 0:
            np.floor(scaled, out=scaled)
        bins = scaled.astype(np.int64)
        if self._first:
            bins -= self._first
        self._counts += np.bincount(bins, minlength=self._counts.size) * weight
        self._zeros += int(np.count_nonzero(x == 0)) * weight

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has counted."""
        if other._counts.size == 0:
            return
        self._hold(other._exponent, other._first, other._first + other._counts.size - 1)
        first, counts = _widen(other._first, other._counts, self._exponent - other._exponent)
        start = first - self._first
        self._counts[start : start + counts.size] += counts
        self._zeros += other._zeros

    def state(self) -> dict[str, np.ndarray]:
        """``exponent`` and ``first`` (the bin of ``counts[0]``), ``counts``, ``zeros``; int64."""
        return {
            "exponent": np.asarray(self._exponent, np.int64),
            "first": np.asarray(self._first, np.int64),
            "counts": self._counts,
            "zeros": np.asarray(self._zeros, np.int64),
        }

    def _fit(self, low: float, high: float) -> None:
        """Make room for elements at ``low`` and ``high``.

        The exponent tried first lets no bin number exceed ``2 * BINS``. Like the smallest exponent
        that holds the range, it never falls when the range grows: the one that results does not
        depend on the order of the samples.
        """
        magnitude = max(abs(low), abs(high))
        wanted = frexp(magnitude)[1] - BINS.bit_length() if magnitude else SMALLEST_EXPONENT
        exponent = max(self._exponent, wanted)
        self._hold(exponent, floor(low * 2.0**-exponent), floor(high * 2.0**-exponent))

    def _hold(self, exponent: int, first: int, last: int) -> None:
        """Widen bins and window until they hold the bins ``first`` to ``last`` of ``exponent``."""
        wider = max(exponent, self._exponent)
        while True:
            begin, end = first >> (wider - exponent), last >> (wider - exponent)
            old_first, old = _widen(self._first, self._counts, wider - self._exponent)
            if old.size:
                begin, end = min(begin, old_first), max(end, old_first + old.size - 1)
            if end - begin < BINS:
                break
            wider += 1
        if (wider, begin, end - begin + 1) == (self._exponent, self._first, self._counts.size):
            return
        counts = np.zeros(end - begin + 1, np.int64)
        counts[old_first - begin : old_first - begin + old.size] = old
        self._exponent, self._first, self._counts = wider, begin, counts


def _widen(first: int, counts: np.ndarray, shift: int) -> tuple[int, np.ndarray]:
    """First bin and counts in bins ``2**shift`` times as wide."""
    if shift == 0 or counts.size == 0:
        return first, counts
    bins = (first + np.arange(counts.size)) >> min(shift, 62)
    starts = np.flatnonzero(np.diff(bins, prepend=bins[0] - 1))
    return int(bins[0]), np.add.reduceat(counts, starts)
