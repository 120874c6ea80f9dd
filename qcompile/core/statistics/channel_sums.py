"""A number that is added up over all positions of each channel: what means are made of."""

from typing import Self

import numpy as np

from qcompile.core.statistics.base import NotFiniteError, TreeSum


class ChannelSums:
    """Sums of each channel along the fixed tree; every position counts the same.

    Args:
        axis: the channel axis, 1 for pictures (N, C, H, W), -1 for features (N, S, C).
    """

    def __init__(self, axis: int) -> None:
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
        return np.zeros(0) if sums is None else np.asarray(sums / self._count)

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in a sample; an empty one says nothing.

        Raises:
            NotFiniteError: a channel's sum is NaN or infinite.
        """
        if sample.size == 0:
            return
        axis = self.axis % sample.ndim
        sums = self._of(sample, axis)
        if not np.all(np.isfinite(sums)):
            raise NotFiniteError("a channel's sum is not finite")
        self._sums.add(sums, index)
        self._count += sample.size // sample.shape[axis]

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen."""
        self._sums.merge(other._sums)
        self._count += other._count

    def state(self) -> dict[str, np.ndarray]:
        """``mean``, float64 (channels,), and ``count``."""
        return {"mean": self.mean, "count": np.asarray(self._count, np.int64)}

    def _of(self, sample: np.ndarray, axis: int) -> np.ndarray:
        """The sums of one sample, float64 (channels,)."""
        raise NotImplementedError
