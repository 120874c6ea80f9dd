"""Times models in this process: warm, in turns, back and forth, with nothing of ours in between.

The agent of a device does the same there, on cores chosen in the same way; both hand on raw
seconds, which ``latency`` sums up.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from qcompile.core.executor import Feeds, Session
from qcompile.targets.devices.agent_machine import cores, fastest, pin
from qcompile.targets.devices.device import Timed, TimingPlan

Clock = Callable[[], float]

_WARM_UP_RUNS: Final = (3, 30)
"""Fewest and most runs of a model before it is timed."""
_WARM_UP_SHARE: Final = 0.2
"""Most of the time budget that warm-up may take, all models together."""
_STABLE: Final = 0.05
"""Warm-up ends when a run takes at most this much more than the fastest before it."""


def time_here(
    sessions: Mapping[str, Session],
    feeds: Mapping[str, Sequence[Feeds]],
    plan: TimingPlan,
    clock: Clock = time.perf_counter,
    threads: int = 1,
) -> Timed:
    """Run loaded models in turns.

    Args:
        sessions: models by name.
        feeds: for each name the inputs to run on, in turn; one is enough.
        plan: how long.
        clock: gives seconds; for tests.
        threads: that the sessions were loaded with; this one is kept on as many of the fastest
            cores, where the system lets it (Linux), and set free at the end.
    """
    start = clock()
    most = plan.seconds * _WARM_UP_SHARE / len(sessions)
    with _pinned(threads), _no_garbage_collection():
        warm_up = {
            name: _warm_up(session, feeds[name], most, clock) for name, session in sessions.items()
        }
        deadline = start + plan.seconds
        cost = sum(float(seconds.min()) for seconds in warm_up.values())
        rounds = _rounds(deadline - clock(), cost, plan.rounds)
        times = _run_in_turns(sessions, feeds, (plan.rounds[0], rounds), deadline, clock)
    return Timed(dict(zip(sessions, times, strict=True)), warm_up)


def _rounds(seconds: float, cost: float, limits: tuple[int, int]) -> int:
    """How many rounds of ``cost`` seconds fit, within the limits."""
    fewest, most = limits
    fit = int(seconds / cost) if cost > 0 else most
    return max(fewest, min(most, fit))


def _warm_up(session: Session, feeds: Sequence[Feeds], budget: float, clock: Clock) -> np.ndarray:
    """Run until the time of a run no longer falls; the seconds of every run."""
    fewest, most = _WARM_UP_RUNS
    best, spent = math.inf, 0.0
    times = []
    for run in range(most):
        start = clock()
        session.run(feeds[run % len(feeds)])
        seconds = clock() - start
        times.append(seconds)
        spent += seconds
        stable = seconds <= best * (1 + _STABLE) and seconds >= best * (1 - _STABLE)
        best = min(best, seconds)
        if run + 1 >= fewest and (stable or spent > budget):
            break
    return np.array(times)


def _run_in_turns(
    sessions: Mapping[str, Session],
    feeds: Mapping[str, Sequence[Feeds]],
    rounds: tuple[int, int],
    deadline: float,
    clock: Clock,
) -> np.ndarray:
    """Seconds of every run, float64 (models, rounds); every second round goes backwards.

    Rounds end at the deadline if the machine has become slower since they were counted.
    """
    fewest, most = rounds
    order = list(enumerate(sessions.items()))
    times = np.zeros((len(sessions), most))
    for turn in range(most):
        if turn >= fewest and clock() > deadline:
            return times[:, :turn]
        for row, (name, session) in order if turn % 2 == 0 else reversed(order):
            feed = feeds[name][turn % len(feeds[name])]
            start = clock()
            session.run(feed)
            times[row, turn] = clock() - start
    return times


@contextmanager
def _pinned(threads: int) -> Iterator[None]:
    """Keep this thread where it is: caches are cold on another core, whose clock may differ."""
    free = cores()
    pin(fastest(threads))
    try:
        yield
    finally:
        pin(free)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the collector from stopping a run in the middle."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
