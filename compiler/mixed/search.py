"""The search for few layers to leave float, by trials of whole sets: no plan is known here."""

from collections.abc import Callable, Mapping, Sequence

Holds = Callable[[frozenset[str]], bool]


class OutOfTimeError(Exception):
    """Raised by ``holds`` when no further trial may be begun."""


def fewest(ranked: Sequence[str], cost: Mapping[str, float], holds: Holds) -> frozenset[str] | None:
    """A small, cheap set of layers that, left float, keeps the budget.

    As NNCF's accuracy-aware quantization, with groups instead of single steps back:

    1. Layers become float by rank, one, two, four, ... until the budget holds.
    2. Bisection between the last two sizes finds the shortest such beginning of the ranking.
       (Where fewer float layers can be better, it finds one whose predecessor fails.)
    3. Back to integer goes what is not needed: halves of the set, the costly layers first, then
       halves of what could not go as a whole.

    Args:
        ranked: layers, the most damaging first.
        cost: what each costs as float, in any unit.
        holds: whether the budget is kept with these layers float; may raise ``OutOfTimeError``, and
            then the best set so far is the answer.

    Returns:
        The set, empty when nothing needs to be float; None when not even all of them suffice, or
        when time ended before a set was found.
    """
    found: frozenset[str] | None = None
    try:
        low, high = _grow(ranked, holds)
        if high is None:
            return None
        found = frozenset(ranked[:high])
        while high - low > 1:
            middle = (low + high) // 2
            if holds(frozenset(ranked[:middle])):
                high, found = middle, frozenset(ranked[:middle])
            else:
                low = middle
        for part in _halves(sorted(found, key=lambda n: (-cost[n], n))):
            # The last one added is needed: without it the beginning failed.
            rest = found - frozenset(part)
            if rest < found and rest and holds(rest):
                found = rest
    except OutOfTimeError:
        pass
    return found


def _grow(ranked: Sequence[str], holds: Holds) -> tuple[int, int | None]:
    """The largest size tried that fails and the smallest that holds; None when none does."""
    low, size = -1, 0
    while True:
        if holds(frozenset(ranked[:size])):
            return low, size
        if size == len(ranked):
            return size, None
        low, size = size, min(max(1, 2 * size), len(ranked))


def _halves(names: Sequence[str]) -> list[list[str]]:
    """All parts by repeated halving, larger ones before what they are made of; not the whole."""
    parts: list[list[str]] = []
    level = [list(names)]
    while level:
        level = [
            half
            for part in level
            if len(part) > 1
            for half in (part[: len(part) // 2], part[len(part) // 2 :])
        ]
        parts += level
    return parts
