"""What must be known of a layer's input to know the mean of its output."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.statistics.base import Statistic, StatisticFactory
from qcompile.core.statistics.channel_mean import ChannelMean
from qcompile.core.statistics.mean_tensor import MeanTensor
from qcompile.core.units import Unit

ELEMENTS = 4 << 20
"""Elements of mean tensors held at once, over all layers (float32, a few partial sums of each)."""

UNKNOWN = 128
"""What a dimension that is not known counts for; the first one, often the batch, counts for 1."""


@dataclass(frozen=True)
class MeanInput:
    """A mean input to evaluate the layer on, and how many output samples it stands for."""

    x: np.ndarray
    count: int


@dataclass(frozen=True)
class MeanForm:
    """How the mean input of one layer is taken.

    A layer that treats every position alike (MatMul, Gemm, a 1x1 Conv) needs the mean of each
    channel. A Conv with a larger kernel also needs to know where: at the border it sees padding,
    and with a stride some positions more often than others. It takes the mean of the whole tensor,
    or, where that is too large to hold, the mean of each channel at every position, which is wrong
    only at the border and between strides.
    """

    unit: Unit
    whole: bool

    @property
    def value(self) -> ir.Value:
        """The input whose mean is taken."""
        value = self.unit.node.inputs[0]
        assert value is not None
        return value

    @property
    def statistic(self) -> str:
        """Name of the statistic in a request; equal for two layers that can take the same."""
        return "mean" if self.whole else f"mean along axis {self.axis}"

    @property
    def axis(self) -> int:
        """The channel axis of the input."""
        return self.unit.channel_axis_of_output

    def factory(self, samples: int) -> StatisticFactory:
        """The statistic that gathers it over the first ``samples`` ones."""
        if self.whole:
            return partial(MeanTensor, stop=samples)
        return partial(ChannelMean, axis=self.axis, stop=samples)

    def gathered(self, statistic: Statistic) -> list[MeanInput]:
        """The mean inputs of a finished statistic."""
        if isinstance(statistic, MeanTensor):
            return [MeanInput(mean, count) for mean, count in statistic.means.values()]
        assert isinstance(statistic, ChannelMean)
        return [self._spread(statistic.mean)] if statistic.count else []

    def of(self, samples: Iterable[np.ndarray], samples_seen: int) -> list[MeanInput]:
        """The mean inputs of samples at hand, by the same statistic."""
        statistic = self.factory(samples_seen)()
        for index, sample in enumerate(samples):
            statistic.update(sample, index)
        return self.gathered(statistic)

    def _spread(self, mean: np.ndarray) -> MeanInput:
        """Channel means as the smallest input the layer gives one output position for."""
        if self.axis != 1:
            return MeanInput(mean.astype(np.float32)[np.newaxis], 1)
        weight = g.static_shape(self.unit.node.inputs[1]) or ()
        kernel = weight[2:]
        dilations = g.attribute_ints(self.unit.node, "dilations", [1] * len(kernel))
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        shape = (1, mean.size, *extent)
        column = mean.astype(np.float32).reshape(1, -1, *[1] * len(kernel))
        return MeanInput(np.ascontiguousarray(np.broadcast_to(column, shape)), 1)


def choose_forms(repairable: Sequence[Unit]) -> dict[ir.Node, MeanForm]:
    """The form for each layer, by its node; small tensors first until ``ELEMENTS`` are held.

    All layers that read a value take the whole tensor if one of them does.
    """
    held = 0
    whole: set[ir.Value | None] = set()
    for unit in sorted(repairable, key=lambda unit: _elements(unit.node.inputs[0])):
        value = unit.node.inputs[0]
        size = _elements(value)
        if value not in whole and _needs_positions(unit) and held + size <= ELEMENTS:
            held += size
            whole.add(value)
    return {unit.node: MeanForm(unit, unit.node.inputs[0] in whole) for unit in repairable}


def _needs_positions(unit: Unit) -> bool:
    node = unit.node
    if node.op_type not in {"Conv", "ConvTranspose"}:
        return False
    kernel = (g.static_shape(node.inputs[1]) or ())[2:]
    strides, pads = g.attribute_ints(node, "strides"), g.attribute_ints(node, "pads")
    return any(k != 1 for k in (*kernel, *strides)) or any(pads)


def _elements(value: ir.Value | None) -> int:
    """Elements of one sample, as far as its shape tells."""
    if value is None or value.shape is None:
        return ELEMENTS + 1
    unknown = (1, *[UNKNOWN] * len(value.shape))
    return math.prod(d if isinstance(d, int) else unknown[i] for i, d in enumerate(value.shape))
