"""Which weights are stored as codes of a table, and which levels stand in the table."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.notes import Note
from qcompile.core.numerics.affine import SMALLEST_SCALE, along_axis, bit_width
from qcompile.core.numerics.codebook import (
    kmeans_rows,
    kmeans_table,
    nearest_codes,
    of_levels,
    power_levels,
    power_scales,
)
from qcompile.core.plan import NodePlan, QuantParams, QuantPlan, ValuePlan
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.statistics.channel_square import ChannelSquare
from qcompile.core.stored import same_numbers
from qcompile.core.units import output_channel_axis, weight_index

FEWEST: Final = 1 << 10
"""Elements that a weight must have: the operators that look up fewer take more than they save."""

LEAST_DEPTH: Final = 16
"""Inputs of an output below which a layer stays float: depthwise ones, that is, whose weights are
few and worth most."""

WORTH_SCALES: Final = 0.9
"""A scale a channel is taken where it leaves less than this part of the squared error."""

_SQUARE: Final = "square"
_STORED: Final = "its weight is stored as codes and looked up when the model is loaded: it computes"


@dataclass(frozen=True, eq=False)
class Coded:
    """A weight that is to be stored as codes."""

    value: ir.Value
    array: np.ndarray
    axis: int | None
    """Of its output channels; of a table, of its rows; None for a stack of matrices."""
    readers: tuple[ir.Node, ...]
    """The multiply-adds and look-ups that read it."""

    @property
    def is_table(self) -> bool:
        """Whether only look-ups read it."""
        return all(node.op_type == "Gather" for node in self.readers)


def plan_codes(graph: ir.Graph, plan: QuantPlan, bits: int, float_nodes: Mapping[str, str]) -> None:
    """Add an entry, without levels, for each weight that is to be stored as codes.

    Matched: float constants that multiply-adds read as their weight, of any rank, and matrices that
    embeddings are looked up in. Left float: what is small (``FEWEST``, ``LEAST_DEPTH``), what holds
    infinities or NaN, and what a node reads that must stay float.

    Args:
        graph: the canonical float graph.
        plan: gets entries of nodes, which stay float, and values.
        bits: of a code.
        float_nodes: node name -> why it must stay float.
    """
    for coded in coded_weights(graph, float_nodes):
        name = coded.value.name or ""
        plan.values[name] = ValuePlan(name, "weight", f"uint{bits}")
        for node in coded.readers:
            reason = f"{_STORED} in floats"
            plan.nodes[node.name or ""] = NodePlan(
                node.name or "", node.op_type, "float", reason, chosen=False
            )


def coded_weights(graph: ir.Graph, float_nodes: Mapping[str, str]) -> Iterator[Coded]:
    """The weights that ``plan_codes`` matches, in graph order."""
    for value in list(graph.initializers.values()):
        array = g.constant(value)
        if array is None or array.dtype != np.float32 or array.size < FEWEST:
            continue
        readers = tuple(use.node for use in value.uses() if weight_index(use.node) == use.idx)
        if not readers or any(node.name in float_nodes for node in readers):
            continue
        if _depth(readers[0], array) < LEAST_DEPTH or not np.isfinite(array.sum()):
            continue
        axes = {_channel_axis(node, array.ndim) for node in readers}
        yield Coded(value, array, axes.pop() if len(axes) == 1 else None, readers)


def squares_request(graph: ir.Graph, plan: QuantPlan) -> StatisticRequest:
    """What ``choose_levels`` asks of samples: the mean squares of what the layers read."""
    wanted: StatisticRequest = {}
    for coded in coded_weights(graph, {}):
        if coded.value.name not in plan.values:
            continue
        for node in coded.readers:
            source = node.inputs[0]
            if node.op_type == "Gather" or source is None or g.constant(source) is not None:
                continue
            axis = 1 if node.op_type in {"Conv", "ConvTranspose"} else -1
            wanted[source.name or ""] = {_SQUARE: partial(ChannelSquare, axis)}
    return wanted


def choose_levels(
    graph: ir.Graph,
    plan: QuantPlan,
    form: str,
    granularity: str | None,
    statistics: Statistics,
) -> list[Note]:
    """Set the levels of every entry that has none.

    Args:
        graph: the canonical float graph.
        plan: as ``plan_codes`` made it; completed in place.
        form: ``codebook`` (k-means) or ``pow2``.
        granularity: ``tensor``, or ``channel`` for a table a channel (of powers of two a scale a
            channel); None takes one table, with a scale a channel where that pays.
        statistics: what ``squares_request`` asked for, or none of it: then all errors count alike.

    Returns:
        What there is to say of all of them together.
    """
    before = after = 0
    noise = signal = 0.0
    done: list[Coded] = []
    for coded in sorted(coded_weights(graph, {}), key=lambda one: one.is_table):
        entry = plan.values.get(coded.value.name or "")
        if entry is None or entry.params is not None:
            continue
        before += coded.array.nbytes
        others = done if coded.array.ndim == 2 else []
        twin = next((one for one in others if same_numbers(one.array, coded.array.T)), None)
        if twin is not None:
            plan.values[entry.name] = _like(plan.values[twin.value.name or ""], entry.name)
            continue
        done.append(coded)
        counts = _importance(coded, statistics)
        made = _with_levels(coded, entry, form, granularity, counts)
        error, whole = _squares(coded.array, made)
        kept = 10 * math.log10(whole / error) if error > 0 and whole > 0 else 200.0
        plan.values[entry.name] = replace(made, reason=f"{kept:.1f} dB of the weight are kept")
        after += stored_bytes(coded.array.size, made)
        noise, signal = noise + error, signal + whole
    if not before:
        return []
    kept = 10 * math.log10(signal / noise) if noise > 0 else 200.0
    what = "powers of two" if form == "pow2" else "places in tables that k-means found"
    sentence = (
        f"weights are stored as {what}: {before / 1e6:.2f} MB as {after / 1e6:.2f} MB, "
        f"{kept:.1f} dB kept. This is a way to store them: the runtime has no kernel that computes "
        "with such codes, looks the floats up when the model is loaded, and takes the time and "
        "memory of the float model"
    )
    return [Note("warning", sentence)]


def code_faults(value: ValuePlan, now: ValuePlan, shape: tuple[int, ...]) -> Iterator[str]:
    """What is wrong with a saved entry of a weight that is stored as codes, one sentence each.

    Args:
        value: the entry as it was read.
        now: as it is planned now, without levels.
        shape: of the weight.
    """
    if (value.role, value.dtype) != (now.role, now.dtype):
        yield f"it is a weight of codes of type {now.dtype}"
    elif value.params is None or value.params.levels is None:
        yield "it has no levels"
    elif value.axis is not None:
        if value.axis >= len(shape):
            yield f"a weight of rank {len(shape)} has no axis {value.axis}"
            return
        found = {value.params.scale.size}
        found |= {len(value.params.levels)} if value.params.levels.ndim == 2 else set()
        if found != {shape[value.axis]}:
            yield f"it takes levels, or scales, for {shape[value.axis]} channels"


def _like(known: ValuePlan, name: str) -> ValuePlan:
    """The entry of a matrix's transpose: the same codes, turned."""
    axis = None if known.axis is None else 1 - known.axis
    return replace(known, name=name, axis=axis, reason=f"as {known.name}, which it is turned")


def stored_bytes(size: int, entry: ValuePlan) -> int:
    """Bytes of codes, levels and scales of a weight of so many elements."""
    assert entry.params is not None and entry.params.levels is not None
    tables = entry.params.levels.nbytes
    scales = 0 if np.all(entry.params.scale == 1) else entry.params.scale.nbytes
    return -(-size * bit_width(entry.dtype) // 8) + tables + scales


def _with_levels(
    coded: Coded,
    entry: ValuePlan,
    form: str,
    granularity: str | None,
    counts: np.ndarray | None,
) -> ValuePlan:
    """The entry with levels; where nothing was asked for, with the scales that pay."""
    if form == "pow2":
        axis = None if granularity == "tensor" else coded.axis
        rows, counted = _as_rows(coded, axis, counts)
        bits = bit_width(entry.dtype)
        scale = power_scales(rows, bits, counted)
        return _leveled(entry, form, axis, scale, power_levels(bits))
    entries = 1 << bit_width(entry.dtype)
    if granularity == "channel" and coded.axis is not None:
        rows, counted = _as_rows(coded, coded.axis, counts)
        scale = np.ones(len(rows), np.float32)
        return _leveled(entry, form, coded.axis, scale, kmeans_rows(rows, entries, counted))
    table = kmeans_table(coded.array, entries, counts)
    plain = _leveled(entry, form, None, np.ones(1, np.float32), table)
    if granularity is not None or coded.axis is None:
        return plain
    scaled = _scaled(coded, entry, counts)
    pays = _squares(coded.array, scaled)[0] < WORTH_SCALES * _squares(coded.array, plain)[0]
    return scaled if pays else plain


def _scaled(coded: Coded, entry: ValuePlan, counts: np.ndarray | None) -> ValuePlan:
    """One table for all channels, each divided by its root mean square before: a scale a channel.

    The error of a channel counts as the square of its scale.
    """
    rows, counted = _as_rows(coded, coded.axis, counts)
    scale = np.sqrt(np.einsum("rn,rn->r", rows, rows, dtype=np.float64) / rows.shape[1])
    scale = np.where(scale > SMALLEST_SCALE, scale, 1.0).astype(np.float32)
    weights = np.square(scale)[:, np.newaxis] * (1.0 if counted is None else counted)
    entries = 1 << bit_width(entry.dtype)
    levels = kmeans_table(rows / scale[:, np.newaxis], entries, weights)
    return _leveled(entry, "codebook", coded.axis, scale, levels)


def _leveled(
    entry: ValuePlan, form: str, axis: int | None, scale: np.ndarray, levels: np.ndarray
) -> ValuePlan:
    shape = () if axis is None else scale.shape
    return replace(
        entry,
        granularity="tensor" if axis is None else "channel",
        axis=axis,
        params=QuantParams(scale.reshape(shape), np.zeros(shape, np.int64), levels),
        rule=form,
    )


def _as_rows(
    coded: Coded, axis: int | None, counts: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """A weight with a row a channel, and what its elements count."""
    if counts is None:
        return _rows(coded.array, axis), None
    return _rows(coded.array, axis), _rows(np.broadcast_to(counts, coded.array.shape), axis)


def _rows(array: np.ndarray, axis: int | None) -> np.ndarray:
    """A row a channel along ``axis``; all in one row without."""
    if axis is None:
        return array.reshape(1, -1)
    return np.ascontiguousarray(np.moveaxis(array, axis, 0)).reshape(array.shape[axis], -1)


def _squares(array: np.ndarray, entry: ValuePlan) -> tuple[float, float]:
    """Sums of squares of a weight's errors, and of itself."""
    assert entry.params is not None and entry.params.levels is not None
    scale = along_axis(entry.params.scale, entry.axis, array.ndim)
    steps = np.divide(array, scale, dtype=np.float32)
    levels = entry.params.levels
    error = of_levels(nearest_codes(steps, levels, entry.axis), levels, entry.axis) * scale - array
    return float(np.vdot(error, error)), float(np.vdot(array, array))


def _importance(coded: Coded, statistics: Statistics) -> np.ndarray | None:
    """What the squared error of each element of a weight counts: the mean square of its input.

    Broadcasts to the weight; the sum over all who read it. None where nothing was seen.
    """
    total: np.ndarray | None = None
    for node in coded.readers:
        source = node.inputs[0]
        seen = statistics.get(source.name or "", {}).get(_SQUARE) if source is not None else None
        if not isinstance(seen, ChannelSquare) or not seen.mean.size:
            continue
        counts = _of_inputs(node, seen.mean.astype(np.float32), coded.array.shape)
        if counts is not None:
            total = counts if total is None else total + counts
    return total if total is not None and total.max() > 0 else None


def _of_inputs(node: ir.Node, squares: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Numbers of the input's channels as they meet the elements of a weight."""
    spatial = (1,) * (len(shape) - 2)
    if node.op_type == "Conv":
        groups = g.attribute_int(node, "group", 1)
        if squares.size != groups * shape[1]:
            return None
        parts = squares.reshape(groups, -1).repeat(shape[0] // groups, axis=0)
        return parts.reshape(*parts.shape, *spatial)
    if node.op_type == "ConvTranspose":
        return squares.reshape(-1, 1, *spatial) if squares.size == shape[0] else None
    along = -1 if node.op_type == "Gemm" and g.attribute_int(node, "transB", 0) else -2
    if g.attribute_int(node, "transA", 0) or len(shape) < 2 or shape[along] != squares.size:
        return None
    return squares if along == -1 else squares[:, np.newaxis]


def _channel_axis(node: ir.Node, rank: int) -> int | None:
    return 0 if node.op_type == "Gather" else output_channel_axis(node, rank)


def _depth(node: ir.Node, array: np.ndarray) -> int:
    """Inputs of an output."""
    axis = _channel_axis(node, array.ndim)
    outputs: int = array.shape[-1 if axis is None else axis]
    return array.size // outputs
