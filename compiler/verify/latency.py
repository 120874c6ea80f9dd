"""Which of several models is faster on this machine, and whether the answer is more than noise.

The models run in turns, back and forth, so that what disturbs the machine disturbs all of them;
the interval of a ratio comes from whole stretches of turns, because disturbances last.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from qcompile.compiler.report.model import Latency, Ratio, Timing
from qcompile.core.executor import Session

Feeds = Mapping[str, np.ndarray]
Clock = Callable[[], float]

_WARM_UP_RUNS: Final = (3, 30)
"""Fewest and most runs of a model before it is timed."""
_WARM_UP_SHARE: Final = 0.2
"""Most of the time budget that warm-up may take, all models together."""
_STABLE: Final = 0.05
"""Warm-up ends when a run takes at most this much more than the fastest before it."""
_ROUNDS: Final = (7, 1000)
"""Fewest and most rounds; the fewest are run even where they take longer than the budget."""
_RESAMPLES: Final = 2000


def compare_latency(
    sessions: Mapping[str, Session],
    feeds: Mapping[str, Sequence[Feeds]],
    *,
    budget: float = 1.5,
    threads: int = 1,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> Latency:
    """Time models against the first of them.

    Args:
        sessions: loaded models by name, the one to compare with first.
        feeds: for each name the inputs to run on, in turn; one is enough.
        budget: seconds to spend, about; a slow model takes at least seven rounds.
        threads: threads that the sessions were loaded with, for the report.
        seed: of the resampling that gives the intervals.
        clock: gives seconds; for tests.

    Returns:
        Median and 90th percentile of each in milliseconds; for every model but the first the
        ratio of medians with a 95 % interval.
    """
    start = clock()
    with _no_garbage_collection():
        cost = sum(
            _warm_up(session, feeds[name], budget * _WARM_UP_SHARE / len(sessions), clock)
            for name, session in sessions.items()
        )
        deadline = start + budget
        rounds = _rounds(deadline - clock(), cost)
        times = _run_in_turns(sessions, feeds, rounds, deadline, clock)
    names = list(sessions)
    timings = tuple(_timing(name, row) for name, row in zip(names, times, strict=True))
    ratios = tuple(
        ratio_of_medians(name, times[0], row, seed=seed)
        for name, row in zip(names[1:], times[1:], strict=True)
    )
    return Latency(timings=timings, ratios=ratios, threads=threads)


def _rounds(seconds: float, cost: float) -> int:
    """How many rounds of ``cost`` seconds fit, within the limits."""
    fewest, most = _ROUNDS
    fit = int(seconds / cost) if cost > 0 else most
    return max(fewest, min(most, fit))


def _warm_up(session: Session, feeds: Sequence[Feeds], budget: float, clock: Clock) -> float:
    """Run until the time of a run no longer falls; returns the seconds that one takes."""
    fewest, most = _WARM_UP_RUNS
    best, spent = math.inf, 0.0
    for run in range(most):
        start = clock()
        session.run(feeds[run % len(feeds)])
        seconds = clock() - start
        spent += seconds
        stable = seconds <= best * (1 + _STABLE) and seconds >= best * (1 - _STABLE)
        best = min(best, seconds)
        if run + 1 >= fewest and (stable or spent > budget):
            break
    return best


def _run_in_turns(
    sessions: Mapping[str, Session],
    feeds: Mapping[str, Sequence[Feeds]],
    rounds: int,
    deadline: float,
    clock: Clock,
) -> np.ndarray:
    """Seconds of every run, float64 (models, rounds); every second round goes backwards.

    Rounds end at the deadline if the machine has become slower since they were counted.
    """
    order = list(enumerate(sessions.items()))
    times = np.zeros((len(sessions), rounds))
    for turn in range(rounds):
        if turn >= _ROUNDS[0] and clock() > deadline:
            return times[:, :turn]
        for row, (name, session) in order if turn % 2 == 0 else reversed(order):
            feed = feeds[name][turn % len(feeds[name])]
            start = clock()
            session.run(feed)
            times[row, turn] = clock() - start
    return times


def _timing(name: str, seconds: np.ndarray) -> Timing:
    return Timing(
        name=name,
        median_ms=float(np.median(seconds)) * 1e3,
        p90_ms=float(np.quantile(seconds, 0.9)) * 1e3,
        runs=len(seconds),
    )


def ratio_of_medians(name: str, base: np.ndarray, other: np.ndarray, *, seed: int = 0) -> Ratio:
    """Median of ``other`` over median of ``base`` and its 95 % interval.

    The interval is the percentile interval of a moving-block bootstrap (Kuensch 1989) over rounds:
    blocks of about the cube root of their number keep neighbouring rounds, which share a
    disturbance, together; both series are resampled alike, because they share it too.

    Args:
        name: of the other model.
        base: seconds of the first model, one a round.
        other: seconds of the other model in the same rounds.
        seed: of the resampling.
    """
    rounds = len(base)
    block = max(1, round(rounds ** (1 / 3)))
    blocks = -(-rounds // block)
    first = np.random.default_rng(seed).integers(0, rounds - block + 1, (_RESAMPLES, blocks))
    pick = (first[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)[:, :rounds]
    ratios = np.median(other[pick], axis=1) / np.median(base[pick], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    value = float(np.median(other) / np.median(base))
    return Ratio(name=name, value=value, low=min(float(low), value), high=max(float(high), value))


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
