"""The range methods, by the names that options and reports use."""

from typing import Final

from qcompile.passes.plan.ranges.entropy import EntropyRange
from qcompile.passes.plan.ranges.method import RangeMethod
from qcompile.passes.plan.ranges.min_max import MinMaxRange
from qcompile.passes.plan.ranges.mse import MseRange
from qcompile.passes.plan.ranges.percentile import PercentileRange

RANGE_METHODS: Final[dict[str, type[RangeMethod]]] = {
    "minmax": MinMaxRange,
    "percentile": PercentileRange,
    "entropy": EntropyRange,
    "mse": MseRange,
}
