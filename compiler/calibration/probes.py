"""Which outputs a session needs for a request, and small ones in place of whole feature maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import values
from qcompile.core.statistics.base import Statistic, Statistics
from qcompile.core.statistics.channel_absmax import ChannelAbsMax
from qcompile.core.statistics.channel_mean import ChannelMean
from qcompile.core.statistics.histogram import Histogram
from qcompile.core.statistics.min_max import MinMax

LARGE = 1 << 14
"""Elements an image from which on a node of its own is cheaper than handing out the value."""


@dataclass(frozen=True)
class View:
    """An output of the session: a value, or what a probe says of it.

    ``statistics`` names those of ``value`` that look at it. With ``weight`` the output is a
    grid of the value's elements, each for that many.
    """

    output: str
    value: str
    statistics: tuple[str, ...]
    weight: int = 0


@dataclass(frozen=True)
class _Probe:
    """A node that reduces a feature map to what a statistic needs of it."""

    op: str
    step: int = 0

    def attributes(self) -> list[ir.Attr]:
        if not self.step:
            return []
        return [
            ir.AttrInt64s("kernel_shape", (1, 1)),
            ir.AttrInt64s("strides", (self.step, self.step)),
        ]


def with_probes(
    model: ir.Model, names: Sequence[str], gathered: Statistics
) -> tuple[ir.Model, tuple[View, ...]]:
    """The model with probes appended, and the outputs to ask of it.

    Handing out a feature map costs more than looking at it: the runtime turns its own blocked
    layout into the plain one and cannot use the memory again. So a large map of known size is
    reduced by the runtime itself, where all that is asked of it allows that:

    1. MinMax, and ChannelAbsMax along axis 1, of a value that cannot be negative need the largest
       element of each channel: GlobalMaxPool.
    2. A Histogram needs its grid of elements: MaxPool with a kernel of one and its step as stride.
    3. ChannelMean along axis 1 needs the mean of each channel: GlobalAveragePool. The runtime adds
       up in float32, so the mean is that of the value to about five digits.
    4. Any other statistic needs the value itself, and then all of them look at that.

    All but the third come out the same to the byte. (A NaN behind a Relu would be lost on the
    way, but it is lost in the Relu already.)

    Args:
        model: not changed; the model returned is a clone that shares its tensors.
        names: values asked for, outputs of nodes.
        gathered: value name -> statistic name -> the statistic that will look at it.
    """
    probes = {name: _probes(value, gathered[name]) for name, value in _named(model, names)}
    if not any(probes.values()):
        return model, tuple(View(name, name, tuple(gathered[name])) for name in names)
    clone = model.clone()
    views: list[View] = []
    for name, value in _named(clone, names):
        for probe, statistics in (probes[name] or {}).items():
            output = _append(clone, probe, value)
            views.append(View(output, name, statistics, probe.step * probe.step))
        if probes[name] is None:
            views.append(View(name, name, tuple(gathered[name])))
    return clone, tuple(views)


def _named(model: ir.Model, names: Sequence[str]) -> list[tuple[str, ir.Value | None]]:
    by_name = {value.name: value for value in values(model.graph)}
    return [(name, by_name.get(name)) for name in names]


def _append(model: ir.Model, probe: _Probe, value: ir.Value | None) -> str:
    """Add the probe of a value to a graph; the name of what it says."""
    taken = {v.name for v in values(model.graph)}
    name = f"{value.name}.{probe.op}" if value is not None else probe.op
    while name in taken:
        name += "_"
    node = ir.Node("", probe.op, [value], attributes=probe.attributes(), name=name)
    node.outputs[0].name = name
    model.graph.append(node)
    return name


def look(view: View, array: np.ndarray, statistics: Mapping[str, Statistic], index: int) -> None:
    """Show an output to the statistics that asked for it."""
    for name in view.statistics:
        statistic = statistics[name]
        if view.weight and isinstance(statistic, Histogram):
            statistic.count(array, view.weight)
        else:
            statistic.update(array, index)


def _probes(
    value: ir.Value | None, statistics: Mapping[str, Statistic]
) -> dict[_Probe, tuple[str, ...]] | None:
    """Probes for all statistics of a value, or None when one needs the value itself."""
    shape = _image_shape(value)
    if shape is None:
        return None
    found: dict[_Probe, tuple[str, ...]] = {}
    for name, statistic in statistics.items():
        probe = _probe(statistic, shape)
        if probe is None:
            return None
        found[probe] = (*found.get(probe, ()), name)
    return found


def _probe(statistic: Statistic, shape: tuple[int, ...]) -> _Probe | None:
    match statistic:
        case MinMax(nonnegative=True) | ChannelAbsMax(nonnegative=True, axis=1):
            return _Probe("GlobalMaxPool")
        case ChannelMean(axis=1):
            return _Probe("GlobalAveragePool")
        case Histogram():
            step = statistic.grid(shape)
            return _Probe("MaxPool", step) if step > 1 else None
        case _:
            return None


def _image_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Shape of one image of a large float feature map, else None; batches may be of any size."""
    if value is None or value.shape is None or value.dtype != ir.DataType.FLOAT:
        return None
    image = tuple(d for d in value.shape[1:] if isinstance(d, int))
    if len(value.shape) != 4 or len(image) != 3 or np.prod(image) < LARGE:
        return None
    return (1, *image)
