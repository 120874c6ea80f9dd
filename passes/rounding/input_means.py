"""What must be known of a layer's input to know the mean of its output."""

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

MEAN = "mean"
"""Name of the statistic in a request."""

ELEMENTS = 4 << 20
"""Elements of mean tensors held at once, over all layers (float32, a few partial sums of each)."""


@dataclass(frozen=True)
class MeanInput:
    """A mean input to evaluate the layer on, and how many output samples it stands for."""

    x: np.ndarray
    count: int


@dataclass(frozen=True)
class MeanForm:
    """How the mean input of one layer is taken.

    A layer that treats every position alike (MatMul, Gemm, a 1x1 Conv) needs the mean of each
    channel. A Conv with a larger kernel also needs to know where: at the border it sees padding;
    it takes the mean of the whole tensor, or, where that is too large to hold, the mean of each
    channel at every position, which is wrong only at the border. A Conv with a stride sees some
    positions more often than others; that is neglected for a 1x1 kernel only.
    """

    unit: Unit
    whole: bool

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


def choose_forms(repairable: Sequence[Unit]) -> dict[str, MeanForm]:
    """The form for each layer's input, by value name; small tensors first until ``ELEMENTS``.

    An input that several layers read takes the form of the one that needs most.
    """
    sized = sorted(repairable, key=lambda unit: _elements(unit.node.inputs[0]))
    forms: dict[str, MeanForm] = {}
    held = 0
    for unit in sized:
        value = unit.node.inputs[0]
        assert value is not None
        name = value.name or ""
        whole = _needs_positions(unit) and held + _elements(value) <= ELEMENTS
        if whole and not (name in forms and forms[name].whole):
            held += _elements(value)
            forms[name] = MeanForm(unit, True)
        forms.setdefault(name, MeanForm(unit, False))
    return forms


def _needs_positions(unit: Unit) -> bool:
    if unit.node.op_type not in {"Conv", "ConvTranspose"}:
        return False
    weight = g.static_shape(unit.node.inputs[1]) or ()
    return any(k != 1 for k in weight[2:])


def _elements(value: ir.Value | None) -> int:
    """Elements of one sample, unknown dimensions counted as 1 (they vary, and are often batch)."""
    if value is None or value.shape is None:
        return ELEMENTS
    return int(np.prod([d if isinstance(d, int) else 1 for d in value.shape], dtype=np.int64))
