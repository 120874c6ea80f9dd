"""What must be known of each channel of keys or values to store them in few bits."""

from collections.abc import Sequence
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
    """Largest magnitude in each channel of each head: float32 (heads * size,)."""

    def __init__(self) -> None:
        self._absmax: np.ndarray | None = None

    @property
    def absmax(self) -> np.ndarray:
        """Empty when nothing was seen."""
        return np.zeros(0, np.float32) if self._absmax is None else self._absmax

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in keys or values (batch, heads, tokens, size).

        Raises:
            NotFiniteError: one is NaN or infinite.
        """
        if not sample.size:
            return
        absmax = np.abs(by_channel(sample)).max(axis=1).astype(np.float32)
        if not np.isfinite(absmax).all():
            raise NotFiniteError("a channel's maximum is not finite")
        self._take(absmax)

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen."""
        if other._absmax is not None:
            self._take(other._absmax)

    def state(self) -> dict[str, np.ndarray]:
        """``absmax``."""
        return {"absmax": self.absmax}

    def _take(self, absmax: np.ndarray) -> None:
        self._absmax = absmax if self._absmax is None else np.maximum(self._absmax, absmax)


class StepErrors:
    """Squared error of rounding to steps of several sizes, a channel: float64 (steps, channels).

    Rounding is half to even, then numbers outside ``low`` to ``high`` are clipped to those.

    Args:
        steps: float32 (steps, heads * size), positive.
        low: the lowest integer.
        high: the highest.
    """

    def __init__(self, steps: np.ndarray, low: int, high: int) -> None:
        self.steps, self.low, self.high = steps, low, high
        self._sum = TreeSum()

    @property
    def errors(self) -> np.ndarray:
        """Zeros when nothing was seen."""
        total = self._sum.total()
        return np.zeros(self.steps.shape) if total is None else total

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in keys or values (batch, heads, tokens, size)."""
        numbers = by_channel(sample).astype(np.float32)
        errors = [self._of(numbers, steps[:, None]) for steps in self.steps]
        self._sum.add(np.stack(errors) if sample.size else None, index)

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen."""
        self._sum.merge(other._sum)

    def state(self) -> dict[str, np.ndarray]:
        """``errors``."""
        return {"errors": self.errors}

    def best(self) -> np.ndarray:
        """The step of each channel that errs least, the smaller of equals: float32 (channels,)."""
        rows = self.errors.argmin(axis=0)
        steps: np.ndarray = np.take_along_axis(self.steps, rows[None], axis=0)[0]
        return steps

    def _of(self, numbers: np.ndarray, step: np.ndarray) -> np.ndarray:
        stored = np.clip(np.rint(numbers / step), self.low, self.high) * step
        errors: np.ndarray = np.square(stored - numbers, dtype=np.float64).sum(axis=1)
        return errors


def candidate_steps(absmax: np.ndarray, high: int, factors: Sequence[float]) -> np.ndarray:
    """Steps that reach to a part of the largest magnitude each: float32 (factors, channels).

    A channel that is always 0 has the step 1.
    """
    reach = np.where(absmax > 0, absmax, np.float32(high))
    return (np.asarray(factors, np.float32)[:, None] * reach / np.float32(high)).astype(np.float32)
