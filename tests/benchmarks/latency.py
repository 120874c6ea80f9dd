"""Latency: one thread, one picture, all candidates in turn in one series, medians."""

import time
from collections.abc import Sequence

import numpy as np
from rich.table import Table

from tests.benchmarks.workshop import FLOAT, OURS, RIVAL, Candidate, Workshop
from tests.models.running import session

ROUNDS = 200
WARM_UP = 20


def measure(shop: Workshop, candidates: Sequence[Candidate]) -> np.ndarray:
    """Seconds of single runs, rounds x candidates."""
    sessions = [session(c.path, threads=1) for c in candidates]
    feeds = {"input": shop.evaluation[0][:1]}
    seconds = np.empty((ROUNDS, len(sessions)))
    for round_ in range(-WARM_UP, ROUNDS):
        for number, loaded in enumerate(sessions):
            start = time.perf_counter()
            loaded.run(None, feeds)
            seconds[round_, number] = time.perf_counter() - start
    return seconds


def tables(shop: Workshop) -> list[Table]:
    """Ratios to the float model and to the rival, with the quartiles of the paired ratios."""
    candidates = shop.candidates()
    seconds = measure(shop, candidates)
    names = [c.name for c in candidates]
    base, rival = names.index(FLOAT), names.index(RIVAL)
    table = Table(
        *("candidate", "median ms", "x float", "quartiles", f"x {RIVAL}"),
        title=f"latency, one thread, {ROUNDS} interleaved rounds",
    )
    for number, name in enumerate(names):
        paired = seconds[:, number] / seconds[:, base]
        low, high = np.quantile(paired, [0.25, 0.75])
        against = np.median(seconds[:, number]) / np.median(seconds[:, rival])
        table.add_row(
            f"[bold]{name}" if name == OURS else name,
            f"{1e3 * np.median(seconds[:, number]):.2f}",
            f"{np.median(seconds[:, number]) / np.median(seconds[:, base]):.3f}",
            f"{low:.3f} - {high:.3f}",
            f"{against:.3f}",
        )
    return [table]
