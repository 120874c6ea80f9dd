"""Arrays in parts of a bounded size, so that what is computed of them takes bounded memory."""

from collections.abc import Iterator
from typing import Final

AT_A_TIME: Final = 1 << 20
"""Elements that are worked on at a time."""


def parts(count: int, each: int) -> Iterator[slice]:
    """Runs of items, of which there are ``count``, of about ``AT_A_TIME`` elements.

    Args:
        count: items, as rows or columns.
        each: elements of an item.
    """
    step = max(1, AT_A_TIME // max(1, each))
    for first in range(0, count, step):
        yield slice(first, first + step)
