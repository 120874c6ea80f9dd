"""What a factor a channel, between an activation and the matrices that read it, does to outputs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.statistics.channel_absmax import ChannelAbsMax
from qcompile.core.statistics.gram import Gram
from qcompile.passes.transform.reads import Read, balanced, floored, product_reads

ABSMAX: Final = "channel absmax"
GRAM: Final = "gram"

ELEMENTS: Final = 100 << 20
"""Elements of all Gram matrices together (float32, a few partial sums of each)."""

SAMPLES: Final = 64
"""Samples whose Gram matrices count: each costs as much as the layers that read the value."""

COLUMNS: Final = 256
"""Most output channels that factors are judged by, evenly spread over those of all readers."""

FLOOR: Final = 1e-5
"""Smallest range of a channel, relative to the largest one."""

WEIGHT_STEPS: Final = 127
"""Steps of a weight's magnitude."""


def reads(graph: ir.Graph, twins: Mapping[str, str], *, only_twins: bool = False) -> list[Read]:
    """As ``product_reads``: the narrowest ones whose Gram matrices can be held together."""
    found = product_reads(graph, twins, only_twins=only_twins)
    kept: set[str] = set()
    held = 0
    for read in sorted(found, key=lambda read: read.group.channels):
        held += read.group.channels**2
        if held <= ELEMENTS:
            kept.add(read.key)
    return [read for read in found if read.key in kept]


@dataclass(frozen=True, eq=False)
class Trial:
    """What a factor a channel does to the outputs of one group of layers.

    The expected squared error of the outputs, a row, where X is read as ``X / s``:

        error = sum over c of min(d**2 / 12, G_cc / s_c**2) |s_c W_c|**2  +  trace(E' G E)

    d the step of ``X / s`` with one scale for all of it (a channel that lies inside one step is
    lost, no more), E the rounding error of ``s W`` over s, and ``G = X' X / rows``: noise of the
    activation, and of the weights on the inputs that occur.
    """

    absmax: np.ndarray
    gram: np.ndarray
    largest: np.ndarray
    weights: np.ndarray
    one_scale: bool
    """Whether the weight has one scale for all output channels."""
    activation_steps: int = 255
    """Steps of an activation's range."""

    def best(self, candidates: Iterable[np.ndarray], most: float) -> np.ndarray | None:
        """The best factors; None when all of them leave more than a share of the error.

        Args:
            candidates: float64 (channels,) each.
            most: the share that may be left.
        """
        limit, found = most * self.error(np.ones_like(self.absmax)), None
        for factors in candidates:
            error = self.error(factors)
            if error < limit:
                limit, found = error, factors
        return found

    def shared(self, alpha: float) -> np.ndarray:
        """The factors that move a share of the activation's range into the weights."""
        return balanced(self.absmax**alpha / self.largest ** (1 - alpha))

    def error(self, factors: np.ndarray) -> float:
        """Expected squared error of the outputs, a row."""
        step = 2 * (self.absmax / factors).max() / self.activation_steps
        weights = self.weights * factors[:, np.newaxis]
        of_all = (self.largest * factors).max()
        scales = of_all if self.one_scale else np.abs(weights).max(axis=0)
        scales = np.maximum(scales / WEIGHT_STEPS, np.finfo(np.float64).tiny)
        rounding = weights - np.rint(weights / scales) * scales
        rounding /= factors[:, np.newaxis]
        on_inputs = np.sum(rounding * (self.gram @ rounding))
        noise = np.minimum(step * step / 12, np.diagonal(self.gram) / factors**2)
        return float(noise @ np.sum(weights * weights, axis=1) + on_inputs)


def _largest(matrices: Iterable[np.ndarray]) -> np.ndarray:
    """The largest magnitude of any weight that reads each channel, float64 (channels,)."""
    ranges = [np.maximum(w.max(axis=1), -w.min(axis=1)) for w in matrices]
    return floored(np.max(ranges, axis=0).astype(np.float64), FLOOR)


def _columns(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """At most ``COLUMNS`` output channels, evenly spread; float64 (channels, columns)."""
    step = -(-sum(w.shape[1] for w in matrices) // COLUMNS)
    return np.concatenate([w[:, ::step] for w in matrices], axis=1).astype(np.float64)


def trial_of(read: Read, statistics: Statistics, granularity: str | None) -> Trial | None:
    """What can be tried of a group; None where nothing was seen of it.

    Args:
        read: the group.
        statistics: holds ``request`` of it.
        granularity: of the weights' scales, ``tensor`` or else ``channel``.
    """
    absmax, gram = statistics[read.name][ABSMAX], statistics[read.name][GRAM]
    assert isinstance(absmax, ChannelAbsMax)
    assert isinstance(gram, Gram)
    if not gram.rows or not absmax.absmax.any():
        return None
    matrices = read.matrices()
    return Trial(
        floored(absmax.absmax.astype(np.float64), FLOOR),
        gram.matrix.astype(np.float64) / gram.rows,
        _largest(matrices),
        _columns(matrices),
        granularity == "tensor",
    )


def request(reads: Iterable[Read]) -> StatisticRequest:
    """The statistics of what each group of MatMuls reads."""
    return {
        read.name: {
            ABSMAX: partial(ChannelAbsMax, axis=read.axis),
            GRAM: partial(Gram, axis=read.axis, samples=SAMPLES),
        }
        for read in reads
    }
