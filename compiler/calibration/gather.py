"""Gathers statistics as a stage of a build, which is told of every sample."""

from collections.abc import Sequence

import onnx_ir as ir

from qcompile.compiler.calibration.collect import collect
from qcompile.compiler.progress import Progress
from qcompile.core.executor import Executor, Feeds
from qcompile.core.statistics.base import StatisticRequest, Statistics


def gather(
    executor: Executor,
    model: ir.Model,
    request: StatisticRequest,
    feeds: Sequence[Feeds],
    progress: Progress,
    *,
    threads: int,
) -> Statistics:
    """``collect``, as the stage ``calibrate`` of ``progress``; the other arguments are its own.

    Raises:
        QCompileError: see there.
    """
    with progress.stage("calibrate", len(feeds)) as counter:
        return collect(
            executor,
            model,
            request,
            feeds,
            threads=threads,
            progress=lambda _: counter.advance(),
        )
