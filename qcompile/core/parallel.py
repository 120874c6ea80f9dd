"""The one seam through which independent work is spread; in-process threads by default."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ordered_map(function: Callable[[A], B], items: Sequence[A], threads: int = 1) -> list[B]:
    """``[function(item) for item in items]``, up to ``threads`` at a time, results in order.

    The first exception is raised, after the calls that had begun are done.
    """
    if threads <= 1 or len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(max_workers=threads) as pool:
        return list(pool.map(function, items))
