"""The Gram matrix of a value's channels over all samples: what GPTQ and least squares need."""

from typing import Self

import numpy as np

from qcompile.core.statistics.base import NotFiniteError, TreeSum


class Gram:
    """``X^T X`` of the value seen as a matrix X of one row a position and one column a channel.

    Args:
        axis: the channel axis, 1 for pictures (N, C, H, W), -1 for features (N, S, C). Every
            sample has the same number of channels.
        samples: take in the first so many samples, by their numbers; None for all.

    """

    def __init__(self, axis: int = -1, samples: int | None = None) -> None:
        self.axis = axis
        self.samples = samples
        self._sums = TreeSum()
        self._rows = 0

    @property
    def rows(self) -> int:
        """Rows of X seen."""
        return self._rows

    @property
    def matrix(self) -> np.ndarray:
        """float32 (channels, channels), symmetric; empty when nothing was seen."""
        total = self._sums.total()
        return np.zeros((0, 0), np.float32) if total is None else total

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in a sample; an empty one says nothing, nor does one too many.

        Raises:
            NotFiniteError: an entry of the product is NaN or infinite.

        """
        if sample.size == 0 or (self.samples is not None and index >= self.samples):
            return
        x = np.moveaxis(np.asarray(sample, np.float32), self.axis, 0)
        x = x.reshape(x.shape[0], -1)
        product = x @ x.T
        if not np.isfinite(np.sum(product.diagonal())):
            raise NotFiniteError("a sum of squares is not finite")
        self._sums.add(product, index)
        self._rows += x.shape[1]

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen."""
        self._sums.merge(other._sums)
        self._rows += other._rows

    def state(self) -> dict[str, np.ndarray]:
        """``matrix``, float32 (channels, channels), and ``rows``."""
        return {"matrix": self.matrix, "rows": np.asarray(self._rows, np.int64)}
