"""What every statistic can do, and the sum that does not depend on how samples were split."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

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


@dataclass
class _Node:
    """The sum of a node's first children, and children that came before their elder siblings."""

    sum: np.ndarray | None = None
    owned: bool = False
    """Nobody else sees the array, so it may be added to in place."""
    next: int = 0
    """The child that is to be added next."""
    early: dict[int, np.ndarray | None] = field(default_factory=dict)

    @property
    def held(self) -> int:
        arrays = (self.sum, *self.early.values())
        return sum(array is not None for array in arrays)

    def put(self, child: int, term: np.ndarray | None, owned: bool) -> None:
        """Take in a child; ``owned`` when its array may be changed."""
        if child < self.next or child in self.early:
            raise ValueError("a sample was added twice")
        if child > self.next:
            self.early[child] = term
            return
        self._add(term, owned)
        self.settle()

    def merge(self, other: "_Node") -> None:
        """Take in the children of the same node that ``other`` holds."""
        if (self.next and other.next) or self.early.keys() & other.early.keys():
            raise ValueError("a sample was added twice")
        if other.next:
            self.sum, self.next = other.sum, other.next
            self.owned = other.owned = False
        self.early |= other.early
        if any(child < self.next for child in self.early):
            raise ValueError("a sample was added twice")
        self.settle()

    def settle(self) -> None:
        """Add the children whose turn has come."""
        while self.next in self.early:
            self._add(self.early.pop(self.next), owned=False)

    def _add(self, term: np.ndarray | None, owned: bool) -> None:
        self.next += 1
        if term is None:
            return
        if self.sum is None:
            self.sum, self.owned = term, owned
        elif self.owned and isinstance(self.sum, np.ndarray):
            np.add(self.sum, term, out=self.sum)
        else:
            self.sum, self.owned = self.sum + term, True


class TreeSum:
    """A float sum over samples, added up along one fixed tree over the sample index.

    Float addition is not associative; here node ``(level, k)`` is always the sum, from left to
    right, of its ``RADIX`` children ``(level-1, RADIX*k)``, ``(level-1, RADIX*k + 1)``..., whoever
    computed them, and an absent sample is passed over. So the total depends only on the set of
    samples. Each level adds up in place: a contiguous run of n samples keeps ``log(n) / log(8)``
    arrays and those that came too early. Parts to be merged later should hold whole runs of
    ``RADIX`` samples, or they keep every array of the runs that others share with them.
    """

    RADIX: Final = 8

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, int], _Node] = {}

    def add(self, term: np.ndarray | None, index: int) -> None:
        """Add the term of sample ``index``; the array may be kept: do not change it later.

        None says that the sample has no term: the total is the same without saying so, but its
        neighbours on the right need not wait for it any longer.
        """
        self._rise(0, index, term, owned=False)

    def merge(self, other: "TreeSum") -> None:
        """Add all that ``other`` holds."""
        for (level, k), theirs in sorted(other._nodes.items(), key=lambda item: item[0]):
            mine = self._nodes.setdefault((level, k), _Node())
            mine.merge(theirs)
            if mine.next == self.RADIX:
                del self._nodes[level, k]
                self._rise(level, k, mine.sum, mine.owned)

    def total(self) -> np.ndarray | None:
        """The sum, or None when no term was added."""
        top = max((level for level, _ in self._nodes), default=0)
        sums: dict[int, np.ndarray | None] = {}
        level = 0
        while level < top or len(sums) > 1:
            level += 1
            parents = {k // self.RADIX for k in sums} | {k for at, k in self._nodes if at == level}
            sums = {k: self._partial(level, k, sums) for k in parents}
        return next(iter(sums.values()), None)

    @property
    def held(self) -> int:
        """How many arrays are kept."""
        return sum(node.held for node in self._nodes.values())

    def _rise(self, level: int, k: int, term: np.ndarray | None, owned: bool) -> None:
        """Give a finished node's sum to its parent, and so on while that finishes parents."""
        while True:
            level, child, k = level + 1, k % self.RADIX, k // self.RADIX
            node = self._nodes.setdefault((level, k), _Node())
            node.put(child, term, owned)
            if node.next < self.RADIX:
                return
            del self._nodes[level, k]
            term, owned = node.sum, node.owned

    def _partial(
        self, level: int, k: int, children: dict[int, np.ndarray | None]
    ) -> np.ndarray | None:
        """Sum of what is there of a node; ``children`` are the sums of its unfinished ones."""
        node = self._nodes.get((level, k), _Node())
        total = node.sum
        for child in range(node.next, self.RADIX):
            term = children.get(k * self.RADIX + child, node.early.get(child))
            total = term if total is None else total if term is None else total + term
        return total
