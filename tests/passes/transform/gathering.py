"""Statistics that a transform asks for, gathered on seeded samples of a small model."""

import numpy as np
import onnx_ir as ir

from qcompile.compiler.calibration.collect import collect
from qcompile.core.statistics.base import StatisticRequest, Statistics
from tests.passes.planning import EXECUTOR, Feed


def samples(model: ir.Model, count: int = 4, scale: float = 1.0) -> list[Feed]:
    """Seeded noise for every input, a batch of two where the batch is open."""
    rng = np.random.default_rng(11)
    return [
        {
            value.name or "": (
                scale
                * rng.standard_normal([d if isinstance(d, int) else 2 for d in value.shape or ()])
            ).astype(np.float32)
            for value in model.graph.inputs
        }
        for _ in range(count)
    ]


def gather(model: ir.Model, request: StatisticRequest, scale: float = 1.0) -> Statistics:
    """What was asked for, over those samples."""
    return collect(EXECUTOR, model, request, samples(model, scale=scale), threads=1)
