"""The smallest and the largest element of a value over all samples."""

from math import inf, isfinite
from typing import Self

import numpy as np

from qcompile.core.statistics.base import NotFiniteError


class MinMax:
    """Exact minimum and maximum, kept as Python floats.

    Args:
        nonnegative: the caller proves that no element is negative (behind Relu, Clip, Sigmoid,
            Softmax); then only the maximum is computed and the minimum is 0.

    """

    def __init__(self, nonnegative: bool = False) -> None:
        self.nonnegative = nonnegative
        self._low = inf
        self._high = -inf

    @property
    def low(self) -> float:
        """The smallest element; 0 when nothing was seen or nothing can be negative."""
        return 0.0 if self.nonnegative or self._high < self._low else self._low + 0.0

    @property
    def high(self) -> float:
        """The largest element; 0 when nothing was seen."""
        return 0.0 if self._high == -inf else self._high + 0.0  # never -0.0

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in a sample of any shape, also an empty one.

        Raises:
            NotFiniteError: an element is NaN or infinite.

        """
        if sample.size == 0:
            return
        high = float(sample.max())
        low = 0.0 if self.nonnegative else float(sample.min())
        if not isfinite(high - low):  # NaN wins every comparison in numpy's min and max
            raise NotFiniteError(f"range {low} to {high}")
        self._high = max(self._high, high)
        self._low = min(self._low, low)

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen."""
        self._high = max(self._high, other._high)
        self._low = min(self._low, other._low)

    def state(self) -> dict[str, np.ndarray]:
        """``low`` and ``high``, scalars."""
        return {"low": np.asarray(self.low, np.float64), "high": np.asarray(self.high, np.float64)}
