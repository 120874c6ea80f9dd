"""Asks whether a small calibration set is large enough: do ranges still grow with each sample?

The range of every layer's output is measured on each half of the set and on all of it. With enough
samples both are about the same; where the whole is much wider than its half, twice as many samples
would be wider still, and the artefact will cut off what it meets later.
"""

from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler.calibration.collect import collect
from qcompile.compiler.data.dataset import Dataset
from qcompile.core.executor import Executor
from qcompile.core.notes import Note
from qcompile.core.statistics.base import StatisticRequest
from qcompile.core.statistics.min_max import MinMax
from qcompile.core.units import COMPUTE_OPS

LARGEST: Final = 16
"""Sets of more samples are not asked: it would cost a run of each."""
MOST: Final = 1.15
"""Of ``growth``. On five networks it was 1.1 to 1.5 with 4 samples, 1.0 to 1.1 with 16."""
_FEWEST_LAYERS: Final = 3


def check_growth(dataset: Dataset, model: ir.Model, executor: Executor) -> list[Note]:
    """Warn of a set whose ranges still grow.

    Args:
        dataset: the samples as they are fed, in an order that is as good as random.
        model: the canonical float graph.
        executor: runs it once a sample.
    """
    if not 2 <= len(dataset) <= LARGEST:
        return []
    found = growth(dataset, model, executor)
    if found is None or found <= MOST:
        return []
    return [
        Note(
            "warning",
            f"{len(dataset)} calibration samples are few: all of them have ranges "
            f"{100 * (found - 1):.0f} % wider than half of them (median over the layers); more "
            "samples would widen them further",
        )
    ]


def growth(dataset: Dataset, model: ir.Model, executor: Executor) -> float | None:
    """Range on all samples over that on half: the mean of both halves, the median of layers."""
    names = [n.outputs[0].name or "" for n in model.graph if n.op_type in COMPUTE_OPS]
    if len(names) < _FEWEST_LAYERS:
        return None
    half = len(dataset) // 2
    first = _ranges(dataset, range(half), names, model, executor)
    rest = _ranges(dataset, range(half, len(dataset)), names, model, executor)
    ratios = []
    for name in names:
        a, b = first[name], rest[name]
        halves = a.high - a.low, b.high - b.low
        if min(halves) > 0:
            whole = max(a.high, b.high) - min(a.low, b.low)
            ratios.append((whole / halves[0] + whole / halves[1]) / 2)
    return float(np.median(ratios)) if ratios else None


def _ranges(
    dataset: Dataset, which: range, names: list[str], model: ir.Model, executor: Executor
) -> dict[str, MinMax]:
    request: StatisticRequest = {name: {"range": MinMax} for name in names}
    feeds = [dataset[index].feeds for index in which]
    statistics = collect(executor, model, request, feeds, threads=1)
    found = {}
    for name in names:
        statistic = statistics[name]["range"]
        assert isinstance(statistic, MinMax)
        found[name] = statistic
    return found
