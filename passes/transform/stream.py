"""The residual stream of a network: values that one orthogonal matrix can turn all at once.

Call a value x *turned* when ``x R`` stands in its place, R orthogonal along its last axis. A sum of
turned values is turned; so is a turned value times a number a row that only depends on its length,
as ``mean(x^2)`` does: all of an RMS normalization but its gain. Layers that write a turned value
take R into their weights, layers that read one take its inverse, and the gain before them too:

    y = (x R) (R' diag(gain) W)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.passes.prepare.edit import is_constant, is_op
from qcompile.passes.prepare.linear import Layer, layer_of

_MEANS: Final = ("ReduceMean", "ReduceSum")
_NORMS: Final = ("RMSNormalization", "SimplifiedLayerNormalization")


@dataclass(frozen=True, eq=False)
class Gain:
    """A node that multiplies by a constant a channel, and the layers behind it."""

    node: ir.Node
    slot: int
    readers: tuple[ir.Node, ...]


@dataclass(eq=False)
class Stream:
    """Values that are turned together, and every constant that has to know of it."""

    key: str
    """Name of the first value."""
    channels: int
    values: list[ir.Value] = field(default_factory=list)
    layers: list[ir.Node] = field(default_factory=list)
    """MatMul and Gemm that write into it."""
    tables: list[ir.Node] = field(default_factory=list)
    """Gathers of rows of a constant."""
    summands: list[tuple[ir.Node, int]] = field(default_factory=list)
    """Node and input index of constants that are added."""
    gains: list[Gain] = field(default_factory=list)
    readers: list[ir.Node] = field(default_factory=list)
    """MatMul and Gemm that read it without a gain between."""
    faults: list[str] = field(default_factory=list)
    """Why it cannot be turned; empty where it can."""


def find_streams(graph: ir.Graph) -> list[Stream]:
    """The streams of a canonical graph in graph order, those with faults included."""
    search = _Search(graph)
    found = []
    for node in graph:
        for value in _begins(node):
            if value not in search.seen:
                found.append(search.follow(value))
    return found


def matrix_of(layer: Layer) -> np.ndarray:
    """The weight of a MatMul or Gemm as it multiplies rows: float64 (inputs, outputs)."""
    weight = layer.weight.astype(np.float64)
    return weight if layer.out_axis == 2 else weight.T


def _begins(node: ir.Node) -> Iterator[ir.Value]:
    """What an RMS normalization reads: streams begin there."""
    if not (_is_norm(node) or _is_square(node)):
        return
    value, means = node.inputs[0], [use.node for use in node.outputs[0].uses()]
    if value is not None and (_is_norm(node) or (means and all(map(_is_mean, means)))):
        yield value


def _is_square(node: ir.Node) -> bool:
    if is_op(node, "Pow"):
        return g.scalar(node.inputs[1]) == 2.0
    return is_op(node, "Mul") and node.inputs[0] is node.inputs[1]


def _is_norm(node: ir.Node) -> bool:
    return node.op_type in _NORMS and _over_last(node, node.inputs[0], "axis")


def _over_last(node: ir.Node, value: ir.Value | None, key: str) -> bool:
    rank = g.rank(value)
    return rank is not None and g.attribute_int(node, key, -1) in {-1, rank - 1}


def _is_mean(node: ir.Node) -> bool:
    """Over the last axis alone, which stays."""
    rank = g.rank(node.inputs[0])
    if not is_op(node, *_MEANS) or rank is None or not g.attribute_int(node, "keepdims", 1):
        return False
    given = g.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = g.attribute_ints(node, "axes") if given is None else tuple(map(int, given.reshape(-1)))
    return [axis % rank for axis in axes or ()] == [rank - 1]


class _Search:
    """Follows a stream from one value over all that makes and reads it."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.seen: dict[ir.Value, Stream] = {}

    def follow(self, start: ir.Value) -> Stream:
        """The stream of a value, complete or with the reason why it cannot be turned."""
        channels = start.shape[-1] if start.shape else None
        stream = Stream(start.name or "", channels if isinstance(channels, int) else 0)
        self.stream = stream
        if stream.channels < 2:
            stream.faults.append(f"how many channels {stream.key} has is not known")
            self.seen[start] = stream
            return stream
        self._done: set[ir.Value] = set()
        self._factors: set[ir.Value] = set()
        """Numbers a row that only depend on the lengths of turned values."""
        waiting = [start]
        while waiting and not stream.faults:
            value = waiting.pop()
            if self.seen.setdefault(value, stream) is not stream:
                self._fault(f"it meets {self.seen[value].key}, which cannot be turned")
            if value in self._done:
                continue
            self._done.add(value)
            stream.values.append(value)
            waiting += self._made(value)
            waiting += self._read(value)
        return stream

    def _fault(self, why: str) -> list[ir.Value]:
        self.stream.faults.append(why)
        return []

    # --- what makes a value ----------------------------------------------------------------------

    def _made(self, value: ir.Value) -> list[ir.Value]:
        node = value.producer()
        if node is None:
            return self._fault(f"{value.name} is an input of the model")
        layer = layer_of(node)
        if layer is not None and is_op(node, "MatMul", "Gemm"):
            return self._written(node, layer)
        if is_op(node, "Gather"):
            return self._looked_up(node)
        if is_op(node, "Add"):
            return self._summed(node)
        if is_op(node, "Mul", "Div"):
            return self._scaled(node)
        return self._fault(f"{node.op_type} {node.name} makes it")

    def _written(self, node: ir.Node, layer: Layer) -> list[ir.Value]:
        if is_op(node, "Gemm") and g.attribute_int(node, "transA", 0):
            return self._fault(f"{node.name} transposes its input")
        self.stream.layers.append(node)
        return []

    def _looked_up(self, node: ir.Node) -> list[ir.Value]:
        table = node.inputs[0]
        if not is_constant(table) or g.rank(table) != 2 or g.attribute_int(node, "axis", 0) != 0:
            return self._fault(f"{node.name} is no look-up of rows of a constant")
        self.stream.tables.append(node)
        return []

    def _summed(self, node: ir.Node) -> list[ir.Value]:
        found = []
        for slot, value in enumerate(node.inputs):
            if value is None:
                continue
            if not is_constant(value):
                found.append(value)
            elif value.shape is None or not len(value.shape) or value.shape[-1] != self._width():
                return self._fault(f"{node.name} adds one number to all channels")
            else:
                self.stream.summands.append((node, slot))
        if any(_last(value) != self._width() for value in found):
            return self._fault(f"{node.name} adds one number to all channels")
        return found

    def _scaled(self, node: ir.Node) -> list[ir.Value]:
        """A turned value times a number a row, or a constant number."""
        a, b = node.inputs
        if b is not None and self._is_factor(b):
            return [a] if a is not None else []
        if a is not None and self._is_factor(a) and is_op(node, "Mul"):
            return [b] if b is not None else []
        return self._fault(f"{node.op_type} {node.name} scales its channels apart")

    def _is_factor(self, value: ir.Value) -> bool:
        """Whether it is one number, or one a row that depends on lengths alone."""
        if is_constant(value):
            array = g.constant(value)
            return array is not None and array.size == 1
        return self._depends_on_lengths(value, 8)

    def _depends_on_lengths(self, value: ir.Value, depth: int) -> bool:
        if value in self._factors:
            return True
        node = value.producer()
        if node is None or not depth:
            return False
        if _is_mean(node):
            return self._squares(node.inputs[0])
        computed = [v for v in node.inputs if v is not None and not is_constant(v)]
        fits = is_op(node, "Add", "Sqrt", "Reciprocal", "Pow", "Mul", "Div", "Max", "Clip", "Cast")
        if fits and computed and all(self._depends_on_lengths(v, depth - 1) for v in computed):
            self._factors.add(value)
            return True
        return False

    def _squares(self, value: ir.Value | None) -> bool:
        """Whether a value is the square of one of the stream."""
        node = value.producer() if value is not None else None
        return node is not None and _is_square(node) and node.inputs[0] in self._done

    # --- what reads it ---------------------------------------------------------------------------

    def _read(self, value: ir.Value) -> list[ir.Value]:
        if value.is_graph_output():
            return self._fault(f"{value.name} is an output of the model")
        found: list[ir.Value] = []
        for use in value.uses():
            if use.node.graph is not self.graph:
                return self._fault(f"{value.name} is read in the body of an If or Loop")
            found += self._reader(use.node, use.idx, value)
            if self.stream.faults:
                return []
        return found

    def _reader(self, node: ir.Node, slot: int, value: ir.Value) -> list[ir.Value]:
        out = node.outputs[0]
        if is_op(node, "Add"):
            return [out]
        if is_op(node, "Pow") or (is_op(node, "Mul") and node.inputs[0] is node.inputs[1]):
            return self._squared(node)
        if _is_norm(node):
            return self._gain(node, 1)
        if is_op(node, "Mul"):
            other = node.inputs[1 - slot]
            array = g.constant(other) if other is not None else None
            if array is not None and array.size == self._width() and array.size > 1:
                return self._gain(node, 1 - slot)
            return [out] if other is not None and self._is_factor(other) else self._odd(node)
        if is_op(node, "Div") and slot == 0:
            other = node.inputs[1]
            return [out] if other is not None and self._is_factor(other) else self._odd(node)
        if slot == 0 and layer_of(node) is not None and is_op(node, "MatMul", "Gemm"):
            self.stream.readers.append(node)
            return []
        return self._odd(node)

    def _odd(self, node: ir.Node) -> list[ir.Value]:
        return self._fault(f"{node.op_type} {node.name} reads it channel by channel")

    def _squared(self, node: ir.Node) -> list[ir.Value]:
        uses = [use.node for use in node.outputs[0].uses()]
        whole = all(map(_is_mean, uses)) and not node.outputs[0].is_graph_output()
        return [] if whole and _is_square(node) else self._odd(node)

    def _gain(self, node: ir.Node, slot: int) -> list[ir.Value]:
        out = node.outputs[0]
        readers = [use.node for use in out.uses()]
        layers = all(
            is_op(r, "MatMul", "Gemm")
            and r.inputs[0] is out
            and layer_of(r) is not None
            and not (is_op(r, "Gemm") and g.attribute_int(r, "transA", 0))
            for r in readers
        )
        if not readers or not layers or out.is_graph_output() or len(node.inputs) > 2:
            return self._fault(f"others than layers read what the gain {node.name} makes")
        self.stream.gains.append(Gain(node, slot, tuple(dict.fromkeys(readers))))
        return []

    def _width(self) -> int:
        return self.stream.channels


def _last(value: ir.Value) -> object:
    return value.shape[-1] if value.shape is not None and len(value.shape) else None
