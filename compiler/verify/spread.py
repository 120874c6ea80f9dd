"""How far a measured difference between two models could be off, had the samples been others.

Both models see the same samples, so differences are paired: what both get right or wrong says
nothing. Every draw is seeded; equal counts give equal intervals.
"""

import math
from typing import Final

import numpy as np

REPLICATES: Final = 4000
"""Resamplings; the ends of a 95 % interval then move by some 2 % of its width with the seed."""
BLOCKS: Final = 1024
"""From this many samples on, whole blocks of neighbours are drawn: the cost stays bounded."""
_ENDS: Final = (2.5, 97.5)


def counted_spread(lost: int, won: int, rows: int) -> tuple[float, float]:
    """The 95 % interval of ``(lost - won) / rows``, in points of 100, by paired bootstrap.

    Rows fall in four cells (both right, both wrong, lost, won) and are drawn anew from them
    (Efron 1979). Each cell begins with half a row (Agresti and Min 2005), or no row lost and none
    won would count as proof that none ever is.

    Args:
        lost: rows that only the float model got right.
        won: rows that only the artefact got right.
        rows: all rows, at least one.
    """
    cells = np.array([lost + 0.5, won + 0.5, rows - lost - won + 1.0]) / (rows + 2)
    drawn = np.random.default_rng(0).multinomial(rows, cells, size=REPLICATES)
    low, high = np.percentile(drawn[:, 0] - drawn[:, 1], _ENDS)
    return 100.0 * float(low) / rows, 100.0 * float(high) / rows


def paired_spread(reference: np.ndarray, candidate: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of ``mean(reference) - mean(candidate)`` by paired bootstrap.

    Args:
        reference: what each sample scores with the float model, (samples,).
        candidate: the same with the artefact.
    """
    differences = reference.astype(np.float64) - candidate.astype(np.float64)
    count = len(differences)
    starts = np.unique(np.arange(BLOCKS) * count // BLOCKS)
    sums = np.add.reduceat(differences, starts)
    sizes = np.diff(np.append(starts, count))
    rng = np.random.default_rng(0)
    means = np.empty(REPLICATES)
    for at in range(0, REPLICATES, 500):
        drawn = rng.integers(0, len(sums), (min(500, REPLICATES - at), len(sums)))
        means[at : at + len(drawn)] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, _ENDS)
    return float(low), float(high)


def chance(lost: int, won: int) -> float:
    """How likely chance alone makes the two counts at least so unequal, 0 to 1.

    The exact test of McNemar 1947: were both models equally good, each row on which they differ
    would be lost or won like a fair coin. Two-sided.
    """
    total, fewer = lost + won, min(lost, won)
    if total > 1000:  # the sum below has terms of 300 digits then, and the normal curve is exact
        z = (abs(lost - won) - 1) / math.sqrt(total) if lost != won else 0.0
        return math.erfc(z / math.sqrt(2))
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    return float(min(1.0, 2 * tail / 2**total))
