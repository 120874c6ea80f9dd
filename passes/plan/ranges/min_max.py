"""The range of everything that was seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from qcompile.core.statistics.base import Statistic, StatisticFactory
from qcompile.core.statistics.min_max import MinMax
from qcompile.passes.plan.ranges.method import MIN_MAX, seen


@dataclass(frozen=True)
class MinMaxRange:
    """From the smallest to the largest element: nothing is clipped."""

    def statistics(self, nonnegative: bool) -> dict[str, StatisticFactory]:
        """Minimum and maximum."""
        return {MIN_MAX: partial(MinMax, nonnegative=nonnegative)}

    def choose(
        self, statistics: Mapping[str, Statistic], dtype: str, symmetric: bool
    ) -> tuple[float, float]:
        """What was seen."""
        return seen(statistics)
