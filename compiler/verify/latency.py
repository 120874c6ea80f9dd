"""Which of several models is faster on a machine, and whether the answer is more than noise.

The models ran in turns, back and forth, so that what disturbs the machine disturbs all of them;
the interval of a ratio comes from whole stretches of turns, because disturbances last.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from qcompile.compiler.report.latency import Drift, Latency, Ratio, Timing
from qcompile.compiler.verify.clock import Clock, time_here
from qcompile.core.executor import Feeds, Session
from qcompile.targets.devices.device import Timed, TimingPlan

Run = Callable[[TimingPlan], Timed]
"""Times the same models once more; equal plans give equal rounds, as far as the machine lets it."""

STRETCH: Final = TimingPlan()
PRECISION: Final = 0.02
"""How far the ends of a ratio's interval may lie from it, as a share, for runs to be enough."""
PATIENCE: Final = 4.0
"""How many times the seconds of a plan a noisy machine gets to become that precise."""
_RESAMPLES: Final = 2000
_FEWEST_FOR_DRIFT: Final = 15
"""Rounds below which thirds of them say nothing."""
_DRIFT: Final = 0.03
"""Share by which the first model must have changed, besides the noise, for it to be told."""


def compare_latency(
    sessions: Mapping[str, Session],
    feeds: Mapping[str, Sequence[Feeds]],
    *,
    budget: float = 1.5,
    precision: float | None = None,
    threads: int = 1,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> Latency:
    """Time models in this process against the first of them.

    Args:
        sessions: loaded models by name, the one to compare with first.
        feeds: for each name the inputs to run on, in turn; one is enough.
        budget: seconds to spend, about; a slow model takes at least seven rounds.
        precision: go on, up to ``PATIENCE`` times the budget, until every ratio is this precise.
        threads: threads that the sessions were loaded with, for the report.
        seed: of the resampling that gives the intervals.
        clock: gives seconds; for tests.
    """

    def run(plan: TimingPlan) -> Timed:
        return time_here(sessions, feeds, plan, clock, threads)

    plan = TimingPlan(seconds=budget)
    return settle(run, plan, precision=precision, threads=threads, seed=seed, clock=clock)


def settle(
    run: Run,
    plan: TimingPlan = STRETCH,
    *,
    precision: float | None = PRECISION,
    threads: int = 1,
    seed: int = 0,
    clock: Clock = time.monotonic,
) -> Latency:
    """Time models here or on a device until the ratios are precise enough, or time is over.

    Args:
        run: times them for as long as it is told.
        plan: of one stretch; there are more while a ratio is too wide and time is left.
        precision: see ``PRECISION``; None for one stretch whatever it gives.
        threads: that the models ran with, for the report.
        seed: of the resampling.
        clock: gives seconds; for tests.
    """
    start = clock()
    timed = run(plan)
    found = summarize(timed, threads=threads, seed=seed, wanted=precision)
    while found.settled is False and clock() - start < PATIENCE * plan.seconds:
        timed = joined(timed, run(plan))
        found = summarize(timed, threads=threads, seed=seed, wanted=precision)
    return found


def summarize(
    timed: Timed, *, threads: int = 1, seed: int = 0, wanted: float | None = None
) -> Latency:
    """What raw times say.

    Args:
        timed: seconds of the models' runs; the first model is what the others are compared with.
        threads: that the models ran with, for the report.
        seed: of the resampling that gives the intervals.
        wanted: precision that was asked of every ratio.

    Returns:
        Median, its 95 % interval, 90th percentile and spread of each in milliseconds; for every
        model but the first the ratio of medians with a 95 % interval; how the first one drifted.
    """
    base, *others = timed.seconds
    ratios = tuple(
        ratio_of_medians(name, timed.seconds[base], timed.seconds[name], seed=seed)
        for name in others
    )
    settled = None if wanted is None else all(ratio.precision <= wanted for ratio in ratios)
    return Latency(
        timings=tuple(_timing(name, row, seed) for name, row in timed.seconds.items()),
        ratios=ratios,
        threads=threads,
        wanted=wanted,
        settled=settled,
        drift=drift_of(timed.seconds[base], seed=seed),
        temperatures=timed.temperatures,
        each=timed.each,
    )


def joined(first: Timed, second: Timed) -> Timed:
    """One series of both: the rounds of the second come after those of the first."""
    return Timed(
        {name: np.concatenate([s, second.seconds[name]]) for name, s in first.seconds.items()},
        first.warm_up,
        (*first.temperatures[:1], *second.temperatures[-1:]),
        first.each,
    )


def _timing(name: str, seconds: np.ndarray, seed: int) -> Timing:
    quarter, median, three, p90 = np.quantile(seconds, (0.25, 0.5, 0.75, 0.9))
    low, high = _interval(np.median(seconds[_blocks(len(seconds), seed)], axis=1), float(median))
    return Timing(
        name=name,
        median_ms=float(median) * 1e3,
        p90_ms=float(p90) * 1e3,
        runs=len(seconds),
        low_ms=low * 1e3,
        high_ms=high * 1e3,
        spread=float((three - quarter) / median) if median > 0 else 0.0,
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
    pick = _blocks(len(base), seed)
    value = float(np.median(other) / np.median(base))
    ratios = np.median(other[pick], axis=1) / np.median(base[pick], axis=1)
    low, high = _interval(ratios, value)
    return Ratio(name=name, value=value, low=low, high=high)


def drift_of(seconds: np.ndarray, *, seed: int = 0) -> Drift | None:
    """How a model's time moved from the first third of the rounds to the last.

    None where it moved by less than 3 %, or no further than the 95 % interval of noise: the thirds
    are resampled by blocks each for itself.

    Args:
        seconds: of one model, one a round.
        seed: of the resampling.
    """
    third = len(seconds) // 3
    if len(seconds) < _FEWEST_FOR_DRIFT:
        return None
    first, last = seconds[:third], seconds[-third:]
    value = float(np.median(last) / np.median(first))
    moved = np.median(last[_blocks(third, seed + 1)], axis=1) / np.median(
        first[_blocks(third, seed)], axis=1
    )
    low, high = _interval(moved, value)
    is_noise = low <= 1.0 <= high or abs(value - 1) < _DRIFT
    return None if is_noise else Drift(value=value, low=low, high=high)


def _blocks(rounds: int, seed: int) -> np.ndarray:
    """Indices of resampled rounds, (resamples, rounds)."""
    block = max(1, round(rounds ** (1 / 3)))
    blocks = -(-rounds // block)
    first = np.random.default_rng(seed).integers(0, rounds - block + 1, (_RESAMPLES, blocks))
    picked: np.ndarray = (first[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)
    return picked[:, :rounds]


def _interval(resampled: np.ndarray, value: float) -> tuple[float, float]:
    """The 95 % percentile interval, which holds the value itself."""
    low, high = np.quantile(resampled, (0.025, 0.975))
    return min(float(low), value), max(float(high), value)
