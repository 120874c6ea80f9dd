"""What every statistic can do, and the sum that does not depend on how samples were split."""

from collections.abc import Callable
from typing import Protocol, Self

import numpy as np


class Statistic(Protocol):
    """Facts about one value, gathered sample by sample.

    For any split of the samples into parts, updating a statistic a part and merging the parts
    gives the same ``state()``, byte for byte, as updating one statistic with all of them.
    """

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in the value that sample number ``index`` (from 0, each once) produced."""

    def merge(self, other: Self) -> None:
        """Take in everything that ``other`` has seen; the two saw different samples."""

    def state(self) -> dict[str, np.ndarray]:
        """Everything gathered, as arrays that can be saved and compared."""


StatisticFactory = Callable[[], Statistic]
"""Makes an empty statistic; a class or a functools.partial of one."""

StatisticRequest = dict[str, dict[str, StatisticFactory]]
"""Which statistics to gather: value name -> a name for each statistic -> its factory."""

Statistics = dict[str, dict[str, Statistic]]
"""What was gathered, under the same names."""


class NotFiniteError(ValueError):
    """A value held NaN or an infinity; whoever knows the value's name says it to the user."""


class TreeSum:
    """A float sum over samples, added up along one fixed binary tree over the sample index.

    Float addition is not associative; here node ``(level, k)`` is always the sum of nodes
    ``(level-1, 2k)`` and ``(level-1, 2k+1)``, whoever computed them, and an absent sample leaves
    its sibling as it is. So the total depends only on the set of samples. At most
    ``log2(n) + 1`` nodes are alive for a contiguous run.
    """

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, int], np.ndarray | None] = {}

    def add(self, term: np.ndarray | None, index: int) -> None:
        """Add the term of sample ``index``; the array is kept, so it must not be changed later.

        None says that the sample has no term: the total is the same without saying so, but its
        neighbours need not be kept apart any longer.
        """
        self._put(0, index, term)

    def merge(self, other: "TreeSum") -> None:
        """Add all that ``other`` holds."""
        for (level, k), term in sorted(other._nodes.items(), key=lambda item: item[0]):
            self._put(level, k, term)

    def total(self) -> np.ndarray | None:
        """The sum, or None when no term was added."""
        row = {(level, k): term for (level, k), term in self._nodes.items() if term is not None}
        level = 0
        while len(row) > 1:  # what is missing stays missing: promote single nodes level by level
            for key in sorted(key for key in row if key[0] == level):
                term, k = row.pop(key), key[1]
                sibling = row.pop((level + 1, k >> 1), None)
                row[level + 1, k >> 1] = term if sibling is None else sibling + term
            level += 1
        return next(iter(row.values()), None)

    @property
    def held(self) -> int:
        """How many arrays are kept."""
        return sum(term is not None for term in self._nodes.values())

    def _put(self, level: int, k: int, term: np.ndarray | None) -> None:
        while True:
            if (level, k) in self._nodes:
                raise ValueError(f"sample {k << level} was added twice")
            if (level, k ^ 1) not in self._nodes:
                self._nodes[level, k] = term
                return
            sibling = self._nodes.pop((level, k ^ 1))
            term = _sum(sibling, term) if k & 1 else _sum(term, sibling)
            level, k = level + 1, k >> 1


def _sum(left: np.ndarray | None, right: np.ndarray | None) -> np.ndarray | None:
    if left is None or right is None:
        return right if left is None else left
    both: np.ndarray = left + right
    return both
