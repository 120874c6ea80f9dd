"""The range whose quantized distribution tells least apart from the float one (KL divergence)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from qcompile.core.statistics.base import Statistic, StatisticFactory
from qcompile.core.statistics.histogram import Histogram
from qcompile.core.statistics.min_max import MinMax
from qcompile.passes.plan.ranges.method import (
    HISTOGRAM,
    MIN_MAX,
    gathered,
    masses,
    seen,
    steps,
    within,
)


@dataclass(frozen=True)
class EntropyRange:
    """Migacz, "8-bit Inference with TensorRT" (GTC 2017), for ranges with one or two ends.

    For each threshold t: P is the histogram clipped to ``[-t, t]``, what lies outside added to the
    outermost bins; Q is the histogram inside without that, its bins joined into as many groups as
    there are quantized levels, each group's mass spread evenly over its bins that P does not have
    empty. The t with the least KL(P || Q) wins, the widest of equals. An end that lies nearer to
    zero than t stays where it was seen, and no group is spent on what lies beyond it, unless the
    range is symmetric.

    With P log P and sums up to each bin, KL needs only the sums at the borders of the groups::

        KL = sum p log p - sum over groups of p(group) * log(q(group) / occupied bins of group)

    so all thresholds are scored in a few array operations. Exact zeros are left out: they are
    represented exactly whatever t is, and would outweigh everything else behind a Relu.

    Args:
        candidates: thresholds tried.
    """

    candidates: int = 512

    def statistics(self, nonnegative: bool) -> dict[str, StatisticFactory]:
        """Minimum and maximum, histogram."""
        return {MIN_MAX: partial(MinMax, nonnegative=nonnegative), HISTOGRAM: Histogram}

    def choose(
        self, statistics: Mapping[str, Statistic], dtype: str, symmetric: bool
    ) -> tuple[float, float]:
        """Try thresholds from one bin a level up to the whole range."""
        histogram = gathered(statistics, HISTOGRAM, Histogram)
        low, high = seen(statistics)
        edges, counts = masses(histogram)
        if not counts.sum() > 0 or low == high:
            return low, high
        first = round(edges[0] / histogram.width)
        below, above = -min(first, 0), max(first + counts.size, 0)  # bins each side of zero
        if first > 0:
            counts = np.concatenate([np.zeros(first), counts])
        elif first + counts.size < 0:
            counts = np.concatenate([counts, np.zeros(-first - counts.size)])
        levels = steps(dtype, symmetric) + 1
        most = max(below, above)
        least = min(levels // 2 if symmetric or min(below, above) else levels, most)
        tried = np.unique(np.linspace(least, most, self.candidates).round().astype(np.int64))
        begin, end = below - np.minimum(tried, below), below + np.minimum(tried, above)
        span = (below - tried, below + tried) if symmetric else (begin, end)
        scores = _divergence(counts, begin, end, span, levels)
        best = int(tried[scores.size - 1 - np.argmin(scores[::-1])])
        return within(-best * histogram.width, best * histogram.width, statistics)


def _divergence(
    counts: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    span: tuple[np.ndarray, np.ndarray],
    levels: int,
) -> np.ndarray:
    """KL(P || Q) for each candidate.

    Args:
        counts: float64 (bins,).
        begin: first bin inside, (candidates,).
        end: bin after the last inside.
        span: first and last border of the groups in bins; it may reach beyond the histogram.
        levels: number of groups.
    """
    mass = _sums(counts)
    under, over = mass[begin], mass[-1] - mass[end]
    first, last = counts[begin], counts[end - 1]
    single = end - begin == 1
    # P: sum of p log p inside, with the two outermost bins replaced
    ends = _xlogx(np.where(single, first + under + over, first + under))
    ends += np.where(single, 0.0, _xlogx(last + over))
    was = _xlogx(first) + np.where(single, 0.0, _xlogx(last))
    p_log_p = _sums(_xlogx(counts))
    log_p = p_log_p[end] - p_log_p[begin] - was + ends
    # groups: borders of each candidate, then mass and occupied bins between them
    share = np.linspace(0.0, 1.0, levels + 1)
    borders = np.rint(span[0][:, None] + (span[1] - span[0])[:, None] * share).astype(np.int64)
    borders = np.clip(borders, begin[:, None], end[:, None])
    q = np.diff(mass[borders], axis=1)
    occupied = np.diff(_sums(counts > 0)[borders], axis=1)
    p = q.copy()
    rows = np.arange(begin.size)
    for outer, bin_, added in ((under, begin, first), (over, end - 1, last)):
        group = np.argmax(borders > bin_[:, None], axis=1) - 1
        p[rows, group] += outer
        occupied[rows, group] += (added == 0) & (outer > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = np.where(p > 0, p * np.log(q / occupied), 0.0).sum(axis=1)
    total, inside = mass[-1], q.sum(axis=1)
    # p and q are normalised by their own sums: total and inside
    scores: np.ndarray = (
        (log_p - cross) / total - np.log(total) + np.log(np.maximum(inside, 1e-300))
    )
    scores[inside <= 0] = np.inf
    return scores


def _sums(counts: np.ndarray) -> np.ndarray:
    """Sum of all bins before each border, (bins + 1,)."""
    return np.concatenate([[0.0], np.cumsum(counts)])


def _xlogx(x: np.ndarray) -> np.ndarray:
    product: np.ndarray = x * np.log(np.maximum(x, 1.0))  # counts are whole: 0 at 0 and at 1
    return product
