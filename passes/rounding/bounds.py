"""Which integers a weight may take: the limits of its type, and of sums that must not saturate."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Bounds:
    """Limits of each integer (less its zero point), and of the sums of those that meet in a kernel.

    On a target whose sums saturate (``core.numerics.saturation``) the inputs fall into sets of a
    few; within a set the positive integers of an output may sum up to ``greatest`` and the negative
    ones down to ``least``.
    """

    low: np.ndarray
    """float64, broadcasts to (groups, M)."""
    high: np.ndarray
    set_of: np.ndarray | None = None
    """(K,): the set of each input; None where sums do not matter."""
    least: int = 0
    greatest: int = 0

    def ordered(self, order: np.ndarray) -> "Bounds":
        """The same for inputs that come in another order."""
        return self if self.set_of is None else replace(self, set_of=self.set_of[order])

    def spent(self, q: np.ndarray) -> "Spent | None":
        """What the integers (groups, K, M) take of the limits of their sets."""
        if self.set_of is None:
            return None
        groups, _, outputs = q.shape
        spent = Spent(self, np.zeros((2, groups, int(self.set_of.max(initial=0)) + 1, outputs)))
        for j in range(q.shape[1]):
            spent.add(j, q[:, j], 1)
        return spent

    def clip(self, j: int, wanted: np.ndarray, spent: "Spent | None") -> np.ndarray:
        """The nearest integers to ``wanted`` (groups, M) that input ``j`` may take."""
        q = np.clip(np.rint(wanted), self.low, self.high)
        return q if spent is None else spent.clip(j, q)


@dataclass(frozen=True, eq=False)
class Spent:
    """Sums of the positive and of the negative integers of each set."""

    bounds: Bounds
    sums: np.ndarray
    """(2, groups, sets, M): of the negative ones, of the positive ones."""

    def add(self, j: int, q: np.ndarray, sign: int) -> None:
        """Put the integers of input ``j`` in (1), or take them out (-1)."""
        assert self.bounds.set_of is not None
        where = self.bounds.set_of[j]
        self.sums[0, :, where] += sign * np.minimum(q, 0)
        self.sums[1, :, where] += sign * np.maximum(q, 0)

    def clip(self, j: int, q: np.ndarray) -> np.ndarray:
        """``q`` within what its set has left."""
        assert self.bounds.set_of is not None
        where = self.bounds.set_of[j]
        low = np.minimum(self.bounds.least - self.sums[0, :, where], 0)
        high = np.maximum(self.bounds.greatest - self.sums[1, :, where], 0)
        clipped: np.ndarray = np.clip(q, low, high)
        return clipped
