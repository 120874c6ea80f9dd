"""QuaRot: outliers of single channels are spread over all by orthogonal matrices."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.errors import Code, QCompileError
from qcompile.core.numerics.hadamard import SMALLEST, factors, rotation
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.statistics.channel_absmax import ChannelAbsMax
from qcompile.passes.prepare.edit import insert, is_constant, is_op, set_constant
from qcompile.passes.prepare.linear import layer_of
from qcompile.passes.transform.stream import Gain, Stream, find_streams, matrix_of
from qcompile.passes.transform.values import Values, find_values

NAME: Final = "rotate"

SEED: Final = 1
"""Of the signs; a plan may have another one."""

_DONE: Final = "qcompile.rotated"
"""``graph.meta`` key: what was turned already, by the names of its values."""

_ABSMAX: Final = "channel absmax"


@dataclass(frozen=True)
class Rotate(ir.passes.InPlacePass):
    """Turn the residual stream, and what the layers read that write into it (Ashkboos et al. 2024).

    With R = diag(signs) H, H a Hadamard matrix or near to one (``core.numerics.hadamard``):

    1. A stream x (``stream.find_streams``) becomes ``x R``: rows of tables, outputs of layers and
       summands are multiplied by R, what layers read by its inverse. Gains of the RMS norms go into
       the layers behind them and become 1, since a gain does not commute with R.
    2. What a layer reads that writes into a stream is multiplied by H as the model runs, and the
       layer's weight by its inverse: ``y = (v H) (H' W)``. H is a Kronecker product of two small
       matrices, so that these are two small MatMuls between two Reshapes; they stay float.
    3. Behind an attention that is recognized (``passes.decoder``) nothing need be done as the model
       runs: a weighted sum of values is turned when the values are, so that H of each head goes
       into the layer that makes the values, and its inverse into the one behind the heads. A cache
       of values, which the model alone reads, is turned with them.

    The float function is kept but for the rounding of the new weights to float32, and of the small
    MatMuls: about 1e-6 of what a layer gives. A head that shared its table with the embedding has
    one of its own from then on.

    Left alone: streams that anything else reads or makes (``Stream.faults``), as behind a
    LayerNormalization, whose mean is no function of lengths.

    Args:
        factors: first value of a stream, or value that a layer reads -> one number, the seed of its
            signs (of rule 2 it is not used); QCompileError(BAD_PLAN) when the graph has none such.
    """

    factors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Turn what was not turned in this graph before."""
        graph = model.graph
        done: frozenset[str] = graph.meta.get(_DONE, frozenset())
        todo = {name: array for name, array in self.factors.items() if name not in done}
        if not todo:
            return ir.passes.PassResult(model, modified=False)
        streams = {s.key: s for s in find_streams(graph) if not s.faults}
        heads = find_values(graph)
        online = {_read(node).name or "": node for s in streams.values() for node in _online(s)}
        known = dict.fromkeys([*heads, *streams, *online])
        missing = next((name for name in todo if name not in known), None)
        if missing is not None:
            what = f"the plan turns the channels of {missing}, which cannot be turned"
            raise QCompileError(Code.BAD_PLAN, what)
        for name in known:  # not in the order of the plan: weights are rounded at every step
            if name not in todo:
                continue
            if name in heads:
                _turn_heads(heads[name])
            elif name in streams:
                _turn(streams[name], int(todo[name][0]))
            else:
                _spread(graph, online[name])
        graph.meta[_DONE] = done | set(todo)
        return ir.passes.PassResult(model, modified=True)


def request(model: ir.Model) -> StatisticRequest:
    """The statistics that ``find`` needs: how far each channel reaches that may be turned."""
    heads = find_values(model.graph)
    names = [name for s in _good(model.graph) for name in _names(s, heads)]
    return {name: {_ABSMAX: partial(ChannelAbsMax, axis=-1)} for name in names}


def find(
    model: ir.Model, statistics: Statistics, granularity: str | None = None
) -> dict[str, np.ndarray]:
    """Find what can be turned; whether it pays is for the outputs to say.

    Args:
        model: the canonical float graph; not changed.
        statistics: what ``request`` asked for; what was silent is left alone.
        granularity: of the weights' scales, which makes no difference here.

    Returns:
        Name of a value -> the seed, float32 (1,).
    """
    found, heads = {}, find_values(model.graph)
    for stream in _good(model.graph):
        for name in _names(stream, heads):
            seen = statistics[name][_ABSMAX]
            assert isinstance(seen, ChannelAbsMax)
            if seen.absmax.size >= SMALLEST and seen.absmax.any():
                found[name] = np.asarray([SEED], np.float32)
    return found


def changed_values(model: ir.Model, factors: Iterable[str]) -> set[str]:
    """Names of the values that differ, or are new, after these were turned."""
    clone, names = model.clone(), set(factors)
    known = {value.name for value in g.values(clone.graph)}
    streams = [s for s in find_streams(clone.graph) if s.key in names]
    heads = [v for name, v in find_values(clone.graph).items() if name in names]
    Rotate({name: np.asarray([SEED], np.float32) for name in names})(clone)
    new = {value.name or "" for value in g.values(clone.graph) if value.name not in known}
    turned = {value.name or "" for s in streams for value in s.values}
    gained = {gain.node.outputs[0].name or "" for s in streams for gain in s.gains}
    return new | turned | gained | {name for values in heads for name in values.turned}


def _good(graph: ir.Graph) -> list[Stream]:
    return [stream for stream in find_streams(graph) if not stream.faults]


def _names(stream: Stream, heads: Mapping[str, Values]) -> list[str]:
    """The stream, and what its layers read, or the values that are turned instead."""
    behind = {values.behind: name for name, values in heads.items()}
    found = (behind.get(node, _read(node).name or "") for node in _online(stream))
    return [stream.key, *dict.fromkeys(found)]


def _online(stream: Stream) -> list[ir.Node]:
    """The layers that write into it, but for those that read it: that is turned already."""
    turned = {*stream.values, *(gain.node.outputs[0] for gain in stream.gains)}
    return [node for node in stream.layers if _read(node) not in turned and _wide(_read(node))]


def _wide(value: ir.Value) -> bool:
    channels = value.shape[-1] if value.shape is not None and len(value.shape) else None
    return isinstance(channels, int) and channels >= SMALLEST and not is_constant(value)


def _read(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


# --- the stream ----------------------------------------------------------------------------------


def _turn(stream: Stream, seed: int) -> None:
    matrix = rotation(stream.channels, seed)
    for node in dict.fromkeys(stream.tables):
        _set(node, 0, _constant(node, 0) @ matrix)
    for node in dict.fromkeys(stream.layers):
        _right(node, matrix)
    for node, slot in dict.fromkeys(stream.summands):
        array = _constant(node, slot)
        _set(node, slot, array @ matrix)
    for gain in stream.gains:
        _absorb(gain, matrix)
    for node in dict.fromkeys(stream.readers):
        _left(node, matrix.T)


def _absorb(gain: Gain, matrix: np.ndarray) -> None:
    array = _constant(gain.node, gain.slot)
    for reader in gain.readers:
        _left(reader, matrix.T * array.reshape(-1))
    _set(gain.node, gain.slot, np.ones_like(array))


def _left(node: ir.Node, matrix: np.ndarray) -> None:
    """``x (matrix W)`` in the place of ``x W``."""
    layer = layer_of(node)
    assert layer is not None
    weight = matrix @ matrix_of(layer)
    _set(node, 1, weight if layer.out_axis == 2 else weight.T)


def _right(node: ir.Node, matrix: np.ndarray) -> None:
    """``(x W + b) matrix`` in the place of ``x W + b``."""
    layer = layer_of(node)
    assert layer is not None
    weight = matrix_of(layer) @ matrix
    _set(node, 1, weight if layer.out_axis == 2 else weight.T)
    if layer.bias is not None:  # beta * C, and so what is to be stored is that over beta
        beta = g.attribute_float(node, "beta", 1.0) if is_op(node, "Gemm") else 1.0
        _set(node, 2, layer.bias @ matrix / beta)


def _constant(node: ir.Node, slot: int) -> np.ndarray:
    array = g.constant(node.inputs[slot])
    assert array is not None
    return array.astype(np.float64)


def _set(node: ir.Node, slot: int, array: np.ndarray) -> None:
    old = g.constant(node.inputs[slot])
    assert old is not None
    set_constant(node, slot, array.astype(old.dtype))


def _turn_heads(values: Values) -> None:
    a, b = factors(values.size)
    matrix = np.kron(a, b)
    _right(values.maker, np.kron(np.eye(values.heads), matrix))
    if values.bias is not None:
        node, slot = values.bias
        _set(node, slot, _constant(node, slot) @ np.kron(np.eye(values.heads), matrix))
    _left(values.behind, np.kron(np.eye(values.readers), matrix.T))


# --- as the model runs ---------------------------------------------------------------------------


def _spread(graph: ir.Graph, layer: ir.Node) -> None:
    """Multiply what a layer reads by H, for all layers that read it, and their weights by H'."""
    value = _read(layer)
    readers = [
        use.node
        for use in value.uses()
        if use.idx == 0 and use.node.graph is graph and is_op(use.node, "MatMul", "Gemm")
    ]
    readers = [node for node in dict.fromkeys(readers) if layer_of(node) is not None]
    first = next(node for node in graph if node in set(readers))
    made, whole = online_rotation(graph, first, value, NAME)
    for node in readers:
        _left(node, whole.T)
        node.replace_input_with(0, made)


def online_rotation(
    graph: ir.Graph, before: ir.Node, value: ir.Value, pass_name: str
) -> tuple[ir.Value, np.ndarray]:
    """Multiply a value by H along its last axis, in float, in front of a node.

    Returns:
        The product, and H, float64 (channels, channels).
    """
    channels = value.shape[-1] if value.shape else None
    assert isinstance(channels, int)
    a, b = factors(channels)
    rank = g.rank(value) or 0
    cut = g.make_initializer(
        graph, f"{value.name}.cut", np.asarray([0] * (rank - 1) + [len(a), len(b)], np.int64)
    )
    joined = g.make_initializer(
        graph, f"{value.name}.joined", np.asarray([0] * (rank - 1) + [channels], np.int64)
    )
    right = g.make_initializer(graph, f"{value.name}.turned_b", b.astype(np.float32))
    pieces = ir.Shape([*list(value.shape or ())[:-1], len(a), len(b)])

    def made(op: str, inputs: list[ir.Value], what: str, shape: ir.Shape | None) -> ir.Value:
        out = insert(
            before, op, inputs, f"{value.name}.{what}", pass_name, like=value,
            source=value.producer(),
        )  # fmt: skip
        out.shape = shape
        node = out.producer()
        assert node is not None
        node.metadata_props[g.STAYS_FLOAT_KEY] = "it turns its input by an orthogonal matrix"
        return out

    x = made("Reshape", [value, cut], "pieces", pieces)
    if len(a) > 1:
        left = g.make_initializer(graph, f"{value.name}.turned_a", a.T.astype(np.float32))
        x = made("MatMul", [left, x], "half_turned", pieces)
    x = made("MatMul", [x, right], "turned_pieces", pieces)
    return made("Reshape", [x, joined], "turned", value.shape), np.kron(a, b)
