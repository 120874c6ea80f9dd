"""What must be known of each channel of keys or values to store them in few bits."""

from typing import Final, Self

import numpy as np

from qcompile.core.statistics.base import NotFiniteError, TreeSum

HEADS: Final = 1
"""Axis of the heads of (batch, heads, tokens, size); the last axis is the other one of channels."""


def by_channel(sample: np.ndarray) -> np.ndarray:
    """(heads * size, batch * tokens) of keys or values (batch, heads, tokens, size)."""
    moved = np.moveaxis(sample, (HEADS, -1), (0, 1))
    return moved.reshape(sample.shape[HEADS] * sample.shape[-1], -1)


class CacheReach:
    """Lowest and highest number in each channel of each head: float32 (heads * size,) both."""

    def __init__(self) -> None:
        self._ends: np.ndarray | None = None

    @property
    def ends(self) -> np.ndarray:
        """Lowest, highest: (2, heads * size); of no channels when nothing was seen."""
        return np.zeros((2, 0), np.float32) if self._ends is None else self._ends

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in keys or values (batch, heads, tokens, size).

        Raises:
            NotFiniteError: one is NaN or infinite.
        """
        if not sample.size:
            return
        numbers = by_channel(sample).astype(np.float32)
        ends = np.stack([numbers.min(axis=1), numbers.max(axis=1)]) + np.float32(0)  # never -0.0
        if not np.isfinite(ends).all():
            raise NotFiniteError("a channel's range is not finite")
        self._take(ends)

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen."""
        if other._ends is not None:
            self._take(other._ends)

    def state(self) -> dict[str, np.ndarray]:
        """``ends``."""
        return {"ends": self.ends}

    def _take(self, ends: np.ndarray) -> None:
        mine = ends if self._ends is None else self._ends
        self._ends = np.stack([np.minimum(mine[0], ends[0]), np.maximum(mine[1], ends[1])])


class GridErrors:
    """Squared error of rounding to each of several grids, a channel: float64 (grids, channels).

    ``lowest + clip(round((x - lowest) / step), 0, last) * step``, half to even.

    Args:
        lowest: float32 (grids, heads * size).
        step: float32 of the same shape, positive.
        last: the highest code.
    """

    def __init__(self, lowest: np.ndarray, step: np.ndarray, last: int) -> None:
        self.lowest, self.step, self.last = lowest, step, last
        self._sum = TreeSum()

    @property
    def errors(self) -> np.ndarray:
        """Zeros when nothing was seen."""
        total = self._sum.total()
        return np.zeros(self.step.shape) if total is None else total

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in keys or values (batch, heads, tokens, size)."""
        numbers = by_channel(sample).astype(np.float32)
        grids = zip(self.lowest[..., None], self.step[..., None], strict=True)
        errors = [self._of(numbers, lowest, step) for lowest, step in grids]
        self._sum.add(np.stack(errors) if sample.size else None, index)

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen."""
        self._sum.merge(other._sum)

    def state(self) -> dict[str, np.ndarray]:
        """``errors``."""
        return {"errors": self.errors}

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and step of each channel's grid that errs least, the first of equals."""
        rows = self.errors.argmin(axis=0)[None]
        found = (np.take_along_axis(grid, rows, axis=0)[0] for grid in (self.lowest, self.step))
        lowest, step = found
        return lowest, step

    def _of(self, numbers: np.ndarray, lowest: np.ndarray, step: np.ndarray) -> np.ndarray:
        codes = np.clip(np.rint((numbers - lowest) / step), 0, self.last)
        errors: np.ndarray = np.square(lowest + codes * step - numbers, dtype=np.float64)
        total: np.ndarray = errors.sum(axis=1)
        return total
