"""The part of the agent that times programs in turns, back and forth, once they are warm."""

from __future__ import annotations

import math
import time
from typing import Callable, Mapping

_WARM_UP_RUNS = (3, 30)
"""Fewest and most runs of a program before it is timed."""
_WARM_UP_SHARE = 0.2
"""Most of the time to spend that warm-up may take, all programs together."""
_STABLE = 0.05
"""Warm-up ends when a run takes at most this much more or less than the fastest before it."""


def time_in_turns(
    runs: Mapping[str, Callable[[int], object]],
    seconds: float,
    rounds: tuple[int, int],
    clock: Callable[[], float] = time.perf_counter,
    alive: Callable[[], None] = lambda: None,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of every run of every program, and of the runs before them.

    Args:
        runs: what runs a program on its n-th input, by the program's name.
        seconds: to spend, about, warm-up included.
        rounds: fewest and most; every second one goes backwards.
        clock: gives seconds.
        alive: called after every run.
    """
    start = clock()
    share = seconds * _WARM_UP_SHARE / max(1, len(runs))
    warm = {name: _warm_up(run, share, clock, alive) for name, run in runs.items()}
    cost = sum(min(times) for times in warm.values())
    left = seconds - (clock() - start)
    fewest, most = rounds
    count = max(fewest, min(most, int(left / cost) if cost > 0 else most))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(count):
        if turn >= fewest and clock() - start > seconds:
            break  # slower than it was while warming up
        for name in list(runs) if turn % 2 == 0 else reversed(list(runs)):
            begin = clock()
            runs[name](turn)
            times[name].append(clock() - begin)
            alive()
    return times, warm


def _warm_up(
    run: Callable[[int], object],
    budget: float,
    clock: Callable[[], float],
    alive: Callable[[], None],
) -> list[float]:
    fewest, most = _WARM_UP_RUNS
    times: list[float] = []
    for turn in range(most):
        begin = clock()
        run(turn)
        times.append(clock() - begin)
        alive()
        best = min(times[:-1], default=math.inf)
        stable = abs(times[-1] - best) <= best * _STABLE
        if turn + 1 >= fewest and (stable or sum(times) > budget):
            break
    return times
