"""Asks the float model whether its channels come alive on the data, and do not all hit their end.

A few samples are run. A channel behind a Relu that is zero at every position of every sample never
fires; one behind a Clip that is at its upper end everywhere says no more. Trained networks have
some of either; where most channels of a layer are such, it is the data that are wrong (black
pictures, numbers far too large or too small), and ranges measured on them are worth nothing.

Channels that could not fire on any data are left out: a network trained with weight decay may hold
most of a layer's weights at 1e-30, and what reads only such channels is mute as well.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler.calibration.collect import collect
from qcompile.compiler.data.dataset import Dataset, evenly
from qcompile.core import graph as g
from qcompile.core.executor import Executor
from qcompile.core.notes import Note
from qcompile.core.parallel import ordered_map
from qcompile.core.statistics.base import StatisticRequest
from qcompile.core.statistics.channel_mean import ChannelMean
from qcompile.passes.prepare.linear import Layer, layer_of

SAMPLES: Final = 8
FEWEST: Final = 4
"""With fewer samples, or channels, nothing is said."""
MOST_DEAD: Final = 0.5
MOST_FULL: Final = 0.5
"""Shares of a layer's channels. Six networks on their own data: at most 0.42 dead (on black
pictures up to 0.84), and 0.01 full."""
MUTE: Final = 1e-6
"""A channel's largest weight over the layer's, below which it says nothing."""


_KEEPING: Final = frozenset({"Relu", "Clip", "Pad", "MaxPool", "AveragePool",
                             "GlobalAveragePool"})  # fmt: skip


@dataclass(frozen=True)
class Firing:
    """What was seen of one layer's channels."""

    node: str
    channels: int
    """Those that are not mute whatever the data are."""
    dead: int
    """Zero everywhere, though they need not be."""
    full: int
    """At the upper end everywhere."""


def check_firing(
    dataset: Dataset, model: ir.Model, executor: Executor, *, threads: int = 1
) -> list[Note]:
    """Warn of data on which most channels of a layer are dead, or always at their end.

    Args:
        dataset: the samples as they are fed.
        model: the canonical float graph.
        executor: runs it, up to ``SAMPLES`` times.
        threads: samples in work at a time.
    """
    found = firing(dataset, model, executor, threads)
    notes = []
    for layer in found:
        if layer.dead > MOST_DEAD * layer.channels:
            notes.append(_warning(layer, layer.dead, "never fire"))
            break  # what follows is a consequence
        if layer.full > MOST_FULL * layer.channels:
            notes.append(_warning(layer, layer.full, "are at their upper end throughout"))
            break
    return notes


def firing(dataset: Dataset, model: ir.Model, executor: Executor, threads: int = 1) -> list[Firing]:
    """Count dead and full channels of every layer with a Relu or a Clip, in graph order."""
    ends = {v.name or "": (node.name or "", high) for node, v, high in _clamped(model.graph)}
    few = evenly(dataset, SAMPLES)
    if not ends or len(few) < FEWEST:
        return []
    factory = partial(ChannelMean, axis=1, stop=len(few))
    request: StatisticRequest = {name: {"mean": factory} for name in ends}
    feeds = ordered_map(lambda index: few[index].feeds, range(len(few)), threads)
    statistics = collect(executor, model, request, feeds, threads=threads)
    mute = mute_channels(model.graph)
    found = []
    for name, (node, high) in ends.items():
        statistic = statistics[name]["mean"]
        assert isinstance(statistic, ChannelMean)
        mean = statistic.mean
        silent = mute.get(name)
        if silent is not None and len(silent) == len(mean):
            mean = mean[~silent]
        if len(mean) >= FEWEST:
            full = np.count_nonzero(mean >= high * (1 - 1e-6))
            found.append(Firing(node, len(mean), int(np.count_nonzero(mean == 0)), int(full)))
    return found


def mute_channels(graph: ir.Graph) -> dict[str, np.ndarray]:
    """Value name -> which of its channels (axis 1) are the same whatever the data are."""
    found: dict[str, np.ndarray] = {}
    for node in graph:
        source = node.inputs[0].name if node.inputs and node.inputs[0] is not None else None
        before = found.get(source or "")
        layer = layer_of(node)
        mute = None
        if layer is not None and layer.channel_axis == 1:
            mute = _mute_rows(layer, before)
        elif node.op_type in _KEEPING:
            mute = before
        if mute is not None:
            found[node.outputs[0].name or ""] = mute
    return found


def _mute_rows(layer: Layer, before: np.ndarray | None) -> np.ndarray:
    weight = np.abs(layer.grouped())
    largest = weight.max(initial=0.0)
    if before is not None and len(before) == layer.in_channels:
        weight = weight * layer.over_inputs(~before)
    axes = tuple(axis for axis in range(1, weight.ndim) if axis != layer.out_axis)
    rows: np.ndarray = weight.max(axis=axes).reshape(-1) <= MUTE * largest
    return rows


def _clamped(graph: ir.Graph) -> list[tuple[ir.Node, ir.Value, float]]:
    """Nodes that end at 0 below, their values, and the end above."""
    found = []
    for node in graph:
        value = node.outputs[0]
        if value.shape is None or len(value.shape) < 2:
            continue
        if node.op_type == "Relu":
            found.append((node, value, np.inf))
        elif node.op_type == "Clip" and len(node.inputs) > 2 and g.scalar(node.inputs[1]) == 0:
            high = g.scalar(node.inputs[2])
            found.append((node, value, np.inf if high is None else high))
    return found


def _warning(layer: Firing, count: int, what: str) -> Note:
    return Note(
        "warning",
        f"{count} of {layer.channels} channels {what} on the calibration data: are these samples "
        "like those the model was trained on, and scaled alike?",
        layer.node or None,
    )
