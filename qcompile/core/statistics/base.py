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


class TreeSum:
    """A float sum over samples, added up along one fixed binary tree over the sample index.

    Float addition is not associative; here node ``(level, k)`` is always the sum of nodes
    ``(level-1, 2k)`` and ``(level-1, 2k+1)``, whoever computed them, so the total depends only
    on the set of samples. At most ``log2(n) + 1`` nodes are alive for a contiguous run.
    """

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, int], np.ndarray] = {}

    def add(self, term: np.ndarray, index: int) -> None:
        """Add the term of sample ``index``; the array is kept, so it must not be changed later."""
        self._put(0, index, term)

    def merge(self, other: "TreeSum") -> None:
        """Add all that ``other`` holds."""
        for (level, k), term in sorted(other._nodes.items()):
            self._put(level, k, term)

    def total(self) -> np.ndarray | None:
        """The sum, or None when nothing was added."""
        terms = [self._nodes[key] for key in sorted(self._nodes, key=lambda n: n[1] << n[0])]
        if not terms:
            return None
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def _put(self, level: int, k: int, term: np.ndarray) -> None:
        while True:
            sibling = self._nodes.pop((level, k ^ 1), None)
            if sibling is None:
                if (level, k) in self._nodes:
                    raise ValueError(f"sample {k << level} was added twice")
                self._nodes[level, k] = term
                return
            term = sibling + term if k & 1 else term + sibling
            level, k = level + 1, k >> 1
