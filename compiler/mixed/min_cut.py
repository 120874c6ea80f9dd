"""A minimum cut: the cheapest of all divisions of things that pull each other to one side."""

import math
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Final

SOURCE: Final = "source"
SINK: Final = "sink"
_LEAST: Final = 1e-9
"""Of the largest capacity: what is left below it is rounding."""

Arcs = Mapping[tuple[Hashable, Hashable], float]


def source_side(arcs: Arcs) -> frozenset[Hashable]:
    """The nodes on ``SOURCE``'s side of a cut between it and ``SINK`` of least capacity.

    Of several cuts it is the one with the fewest nodes on that side. Augmenting paths by breadth
    first (Edmonds and Karp 1972), which is quick for the hundreds of layers of a model.

    Args:
        arcs: (from, to) -> capacity, not negative; ``math.inf`` for what must not be cut.
    """
    left: dict[Hashable, dict[Hashable, float]] = {SOURCE: {}, SINK: {}}
    for (start, end), capacity in arcs.items():
        ahead, back = left.setdefault(start, {}), left.setdefault(end, {})
        ahead[end] = ahead.get(end, 0.0) + capacity
        back.setdefault(start, 0.0)
    largest = max((c for c in arcs.values() if math.isfinite(c)), default=0.0)
    while True:
        before = _reached(left, _LEAST * largest)
        if SINK not in before:
            return frozenset(before)
        _augment(left, before)


def _reached(
    left: Mapping[Hashable, Mapping[Hashable, float]], least: float
) -> dict[Hashable, Hashable]:
    """Nodes that the source reaches, each with the one before it."""
    before: dict[Hashable, Hashable] = {SOURCE: SOURCE}
    waiting: deque[Hashable] = deque([SOURCE])
    while waiting:
        node = waiting.popleft()
        for other, capacity in left[node].items():
            if capacity > least and other not in before:
                before[other] = node
                waiting.append(other)
    return before


def _augment(
    left: dict[Hashable, dict[Hashable, float]], before: Mapping[Hashable, Hashable]
) -> None:
    path, end = [], SINK
    while end != SOURCE:
        path.append((before[end], end))
        end = before[end]  # type: ignore[assignment]
    flow = min(left[a][b] for a, b in path)
    if math.isinf(flow):
        raise ValueError("what must not be cut joins both sides")
    for a, b in path:
        left[a][b] -= flow
        left[b][a] += flow
