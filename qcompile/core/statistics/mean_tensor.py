"""The mean of a whole value over the first samples, for what is linear in it."""

from typing import Self

import numpy as np

from qcompile.core.statistics.base import TreeSum

Shape = tuple[int, ...]
MOST_SHAPES = 8


class MeanTensor:
    """Element-wise mean over the samples with ``index < stop``, one for each shape that occurs.

    A convolution is linear, so the mean of its output is its output for the mean input: bias
    correction needs this tensor and no activations. At most eight shapes are kept, the smallest
    ones by size and then in order; which these are does not depend on how samples were split.

    Args:
        stop: samples from this index on are not looked at.

    """

    def __init__(self, stop: int) -> None:
        self.stop = stop
        self._sums: dict[Shape, TreeSum] = {}
        self._counts: dict[Shape, int] = {}
        self._seen: set[int] = set()

    @property
    def means(self) -> dict[Shape, tuple[np.ndarray, int]]:
        """Shape -> float32 mean and the number of samples it is of, smallest shape first."""
        found = {}
        for shape in sorted(self._sums, key=_rank):
            total = self._sums[shape].total()
            if total is not None:
                count = self._counts[shape]
                found[shape] = (total / np.float32(count), count)
        return found

    @property
    def ignored(self) -> int:
        """Samples with ``index < stop`` whose shape is not kept."""
        return len(self._seen) - sum(self._counts.values())

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in a sample; the array is kept for a while, so it must not be changed later.

        A NaN ends in the mean: finding it here would cost another pass, and MinMax finds it.
        """
        if index >= self.stop:
            return
        shape = sample.shape
        self._sums_of(shape)
        self._seen.add(index)
        self._counts[shape] += 1
        for kept, sums in self._sums.items():
            sums.add(sample.astype(np.float32, copy=False) if kept == shape else None, index)
        self._forget()

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen; the same ``stop`` is meant."""
        for shape in {*self._sums, *other._sums}:
            theirs = other._sums.get(shape)
            self._sums_of(shape).merge(theirs or _absent(other._seen))
            self._counts[shape] += other._counts.get(shape, 0)
        self._seen |= other._seen
        self._forget()

    def state(self) -> dict[str, np.ndarray]:
        """``mean_AxBxC`` and ``count_AxBxC`` for each shape kept, and ``ignored``."""
        arrays = {"ignored": np.asarray(self.ignored, np.int64)}
        for shape, (mean, count) in self.means.items():
            name = "x".join(map(str, shape))
            arrays[f"mean_{name}"] = mean
            arrays[f"count_{name}"] = np.asarray(count, np.int64)
        return arrays

    def _sums_of(self, shape: Shape) -> TreeSum:
        """The sum for a shape; a new one knows that the samples seen so far have no part in it."""
        if shape not in self._sums:
            self._sums[shape] = _absent(self._seen)
            self._counts[shape] = 0
        return self._sums[shape]

    def _forget(self) -> None:
        for shape in sorted(self._sums, key=_rank)[MOST_SHAPES:]:
            del self._sums[shape], self._counts[shape]


def _absent(seen: set[int]) -> TreeSum:
    sums = TreeSum()
    for index in seen:
        sums.add(None, index)
    return sums


def _rank(shape: Shape) -> tuple[int, Shape]:
    return int(np.prod(shape, dtype=np.int64)), shape
