"""The range that leaves out a given share of the elements."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from qcompile.core.statistics.base import Statistic, StatisticFactory
from qcompile.core.statistics.histogram import Histogram
from qcompile.core.statistics.min_max import MinMax
from qcompile.passes.plan.ranges.method import HISTOGRAM, MIN_MAX, gathered, seen, within


@dataclass(frozen=True)
class PercentileRange:
    """The narrowest range of whole bins that leaves out at most ``100 - percentile`` percent.

    1. A value with elements on both sides of zero loses at most half of that at each end.
    2. A value on one side of zero loses all of it at its far end: the other end is zero.
    3. A symmetric range loses all of it beyond its larger magnitude.
    """

    percentile: float = 99.99

    def statistics(self, nonnegative: bool) -> dict[str, StatisticFactory]:
        """Minimum and maximum, histogram."""
        return {MIN_MAX: partial(MinMax, nonnegative=nonnegative), HISTOGRAM: Histogram}

    def choose(
        self, statistics: Mapping[str, Statistic], dtype: str, symmetric: bool
    ) -> tuple[float, float]:
        """Cut what was seen to the percentile."""
        histogram = gathered(statistics, HISTOGRAM, Histogram)
        if not histogram.counts.size:
            return seen(statistics)
        edges, counts = histogram.edges, histogram.counts
        allowed = counts.sum() * (100.0 - self.percentile) / 100.0 * (1 + 1e-9)  # 100 - 99.9 < 0.1
        if symmetric:
            magnitude = np.where(edges[:-1] < 0, -edges[:-1], edges[1:])
            order = np.argsort(magnitude, kind="stable")
            end = float(magnitude[order][_kept(counts[order], allowed)])
            return within(-end, end, statistics)
        low, high = seen(statistics)
        each = allowed / 2 if low < 0 < high else allowed
        first = counts.size - 1 - _kept(counts[::-1], each)
        return within(float(edges[first]), float(edges[_kept(counts, each) + 1]), statistics)


def _kept(counts: np.ndarray, allowed: float) -> int:
    """Last bin to keep so that at most ``allowed`` elements come after it."""
    after = counts.sum() - np.cumsum(counts)
    return int(np.argmax(after <= allowed))
