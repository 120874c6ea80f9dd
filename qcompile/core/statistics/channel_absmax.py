"""The largest magnitude in each channel of a value over all samples."""

from typing import Self

import numpy as np

from qcompile.core.statistics.base import NotFiniteError


class ChannelAbsMax:
    """Exact absolute maximum a channel.

    Args:
        axis: the channel axis, 1 for pictures (N, C, H, W), -1 for features (N, S, C). Every
            sample has the same number of channels.
        nonnegative: the caller proves that no element is negative; one pass is saved.

    """

    def __init__(self, axis: int = 1, nonnegative: bool = False) -> None:
        self.axis = axis
        self.nonnegative = nonnegative
        self._absmax: np.ndarray | None = None

    @property
    def absmax(self) -> np.ndarray:
        """float32 (channels,); empty when nothing was seen."""
        return np.zeros(0, np.float32) if self._absmax is None else self._absmax

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in a sample; an empty one says nothing.

        Raises:
            NotFiniteError: an element is NaN or infinite.
            ValueError: the number of channels is not that of earlier samples.

        """
        if sample.size == 0:
            return
        axis = self.axis % sample.ndim
        others = tuple(k for k in range(sample.ndim) if k != axis)
        absmax = sample.max(axis=others)
        if not self.nonnegative:
            absmax = np.maximum(absmax, -sample.min(axis=others))
        if not np.all(np.isfinite(absmax)):
            raise NotFiniteError("a channel's maximum is not finite")
        self._take(absmax.astype(np.float32) + np.float32(0))  # never -0.0

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen."""
        if other._absmax is not None:
            self._take(other._absmax)

    def state(self) -> dict[str, np.ndarray]:
        """``absmax``, float32 (channels,)."""
        return {"absmax": self.absmax}

    def _take(self, absmax: np.ndarray) -> None:
        if self._absmax is not None and self._absmax.shape != absmax.shape:
            raise ValueError(f"{absmax.size} channels after {self._absmax.size}")
        self._absmax = absmax if self._absmax is None else np.maximum(self._absmax, absmax)
