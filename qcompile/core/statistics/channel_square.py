"""Mean square of each channel of a value: the diagonal of its Gram matrix, without the rest."""

from typing import Self

import numpy as np

from qcompile.core.statistics.base import NotFiniteError, TreeSum


class ChannelSquare:
    """Sum of squares of each channel along the fixed tree; every position counts the same.

    Args:
        axis: the channel axis, 1 for pictures (N, C, H, W), -1 for features (N, S, C).
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis
        self._sums = TreeSum()
        self._count = 0

    @property
    def mean(self) -> np.ndarray:
        """float64 (channels,); empty when nothing was seen."""
        sums = self._sums.total()
        return np.zeros(0) if sums is None else np.asarray(sums / self._count)

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in a sample; an empty one says nothing.

        Raises:
            NotFiniteError: a channel's sum of squares is NaN or infinite.
        """
        if sample.size == 0:
            return
        rows = np.moveaxis(np.asarray(sample, np.float32), self.axis, -1)
        rows = rows.reshape(-1, rows.shape[-1])
        sums = np.einsum("nc,nc->c", rows, rows, dtype=np.float64)
        if not np.all(np.isfinite(sums)):
            raise NotFiniteError("a channel's sum of squares is not finite")
        self._sums.add(sums, index)
        self._count += rows.shape[0]

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen."""
        self._sums.merge(other._sums)
        self._count += other._count

    def state(self) -> dict[str, np.ndarray]:
        """``mean``, float64 (channels,), and ``count``."""
        return {"mean": self.mean, "count": np.asarray(self._count, np.int64)}
