"""Mean and variance of each channel of a value over all samples."""

from typing import Self

import numpy as np

from qcompile.core.statistics.base import NotFiniteError, TreeSum


class Moments:
    """Sums of x and x**2 a channel, in float64 along the fixed tree.

    The variance is ``E[x**2] - E[x]**2``: the squares of float32 are exact in float64, so it keeps
    about six digits where the mean is a thousand times the deviation.

    Args:
        axis: the channel axis, 1 for pictures (N, C, H, W), -1 for features (N, S, C). Every
            sample has the same number of channels.

    """

    def __init__(self, axis: int = 1) -> None:
        self.axis = axis
        self._sums = TreeSum()
        self._count = 0

    @property
    def count(self) -> int:
        """Elements seen in each channel."""
        return self._count

    @property
    def mean(self) -> np.ndarray:
        """float64 (channels,); empty when nothing was seen."""
        sums = self._sums.total()
        if sums is None:
            return np.zeros(0)
        mean: np.ndarray = sums[0] / self._count
        return mean

    @property
    def variance(self) -> np.ndarray:
        """Of the elements seen (divided by their number), float64 (channels,), not negative."""
        sums = self._sums.total()
        if sums is None:
            return np.zeros(0)
        mean = sums[0] / self._count
        variance: np.ndarray = np.maximum(sums[1] / self._count - mean * mean, 0.0)
        return variance

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in a sample; an empty one says nothing.

        Raises:
            NotFiniteError: an element is NaN or infinite.

        """
        if sample.size == 0:
            return
        axis = self.axis % sample.ndim
        others = tuple(k for k in range(sample.ndim) if k != axis)
        wide = np.asarray(sample, np.float64)
        sums = np.stack([wide.sum(axis=others), (wide * wide).sum(axis=others)])
        if not np.all(np.isfinite(sums)):
            raise NotFiniteError("a channel's sum is not finite")
        self._sums.add(sums, index)
        self._count += sample.size // sample.shape[axis]

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen."""
        self._sums.merge(other._sums)
        self._count += other._count

    def state(self) -> dict[str, np.ndarray]:
        """``mean`` and ``variance``, float64 (channels,), and ``count``."""
        return {
            "mean": self.mean,
            "variance": self.variance,
            "count": np.asarray(self._count, np.int64),
        }
