"""What a range method is, and what all of them share: zero inside, never beyond what was seen."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

import numpy as np

from qcompile.core.numerics.affine import limits, zero_offset
from qcompile.core.statistics.base import Statistic, StatisticFactory
from qcompile.core.statistics.histogram import Histogram
from qcompile.core.statistics.min_max import MinMax

S = TypeVar("S")
MIN_MAX = "minmax"
HISTOGRAM = "histogram"


class RangeMethod(Protocol):
    """Chooses the range of a value from what calibration has seen of it."""

    def statistics(self, nonnegative: bool) -> dict[str, StatisticFactory]:
        """What to gather: a name for each statistic -> its factory.

        Args:
            nonnegative: the caller proves that the value has no negative element.
        """

    def choose(
        self, statistics: Mapping[str, Statistic], dtype: str, symmetric: bool
    ) -> tuple[float, float]:
        """Choose ``(low, high)``.

        Args:
            statistics: what was gathered, under the names of ``statistics()``.
            dtype: the quantized type, as ``uint8``.
            symmetric: zero lies in the middle of the integers; the larger magnitude of the two
                ends then decides the scale.

        Returns:
            ``low <= 0 <= high``, within the smallest and the largest element seen and zero.
        """


def gathered(statistics: Mapping[str, Statistic], name: str, kind: type[S]) -> S:
    """The statistic of that name; a wrong one is a fault of ours."""
    found = statistics[name]
    if not isinstance(found, kind):
        raise TypeError(f"{name} is a {type(found).__name__}, not a {kind.__name__}")
    return found


def seen(statistics: Mapping[str, Statistic]) -> tuple[float, float]:
    """Exact smallest and largest element, widened to hold zero."""
    minmax = gathered(statistics, MIN_MAX, MinMax)
    return min(minmax.low, 0.0), max(minmax.high, 0.0)


def within(low: float, high: float, statistics: Mapping[str, Statistic]) -> tuple[float, float]:
    """The range cut to what was seen, with zero inside; equal to it where nothing would be left."""
    least, most = seen(statistics)
    low, high = min(max(low, least), 0.0), max(min(high, most), 0.0)
    return (low, high) if high > low else (least, most)


def steps(dtype: str, symmetric: bool) -> int:
    """Number of quantization steps between the ends of a range."""
    low, high = limits(dtype)
    return 2 * (high - zero_offset(dtype)) if symmetric else high - low


def masses(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Edges and counts of the elements that quantization moves: exact zeros are taken out.

    Returns:
        float64 ``edges`` (n + 1,) and ``counts`` (n,); of an empty histogram n is 0.
    """
    counts = histogram.counts.astype(np.float64)
    edges = histogram.edges
    zero = int(np.searchsorted(edges, 0.0, side="right")) - 1
    if 0 <= zero < counts.size:
        counts[zero] -= histogram.zeros
    return edges, counts
