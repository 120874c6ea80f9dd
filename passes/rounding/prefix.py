"""Runs the quantized graph piece by piece, so that a layer can be repaired before the next one."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.executor import Executor
from qcompile.core.numerics.affine import dequantize, quantize, storage_type
from qcompile.core.parallel import ordered_map
from qcompile.core.plan import QuantPlan, wide_name
from qcompile.core.units import Unit, units
from qcompile.passes.quantize.insert_qdq import InsertQDQ


@dataclass(frozen=True)
class Piece:
    """A run of nodes that is executed at once; ``unit`` is the one to work on before it runs."""

    nodes: tuple[ir.Node, ...]
    unit: Unit | None


def cut(graph: ir.Graph, plan: QuantPlan, also: Collection[ir.Node] = ()) -> list[Piece]:
    """Cut a graph behind and before every integer unit with a weight and a bias.

    The pieces together hold every node up to the last such unit once, in graph order; what comes
    behind it is not needed. Units that start at a node of ``also`` are cut out as well.
    """
    by_root = {unit.node: unit for unit in units(graph, plan)}
    pieces: list[Piece] = []
    waiting: list[ir.Node] = []
    done: set[ir.Node] = set()
    for node in graph:
        if node in done:
            continue
        unit = by_root.get(node)
        nodes = (node,) if unit is None else unit.nodes  # a unit is run as one, never cut
        done.update(nodes)
        if unit is None or not (node in also or is_repairable(unit, plan)):
            waiting.extend(nodes)
            continue
        if waiting:
            pieces.append(Piece(tuple(waiting), None))
            waiting = []
        pieces.append(Piece(nodes, unit))
    return pieces


def is_repairable(unit: Unit, plan: QuantPlan) -> bool:
    """Whether the unit adds a bias of its own to what is linear in its input.

    Not where a Gemm transposes its input: its channels lie along another axis then.
    """
    bias = unit.bias
    return (
        unit.weight is not None
        and bias is not None
        and bias.name in plan.values
        and unit.node.inputs[0] is not None
        and not g.attribute_int(unit.node, "transA", 0)
    )


@dataclass
class QuantizedPrefix:
    """The live activations of some samples at the point up to which the graph has been run.

    Values made by integer nodes are held as integers, a quarter of their float size; a value is
    dropped when no later piece reads it.
    """

    graph: ir.Graph
    plan: QuantPlan
    executor: Executor
    feeds: Sequence[Mapping[str, np.ndarray]]
    threads: int = 1
    opset_imports: Mapping[str, int] = field(default_factory=dict)
    _live: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def start(self, pieces: Sequence[Piece]) -> None:
        """Take the samples in, and count who reads what."""
        self._last_reader: dict[str, int] = {}
        for index, piece in enumerate(pieces):
            for value in _read(piece):
                self._last_reader[value.name or ""] = index
        self._last_read: list[list[str]] = [[] for _ in pieces]
        for name, index in self._last_reader.items():
            self._last_read[index].append(name)
        for value in self.graph.inputs:
            name = value.name or ""
            if name in self._last_reader and name not in self.graph.initializers:
                self._live[name] = [feed[name] for feed in self.feeds]

    def run(self, pieces: Sequence[Piece], index: int) -> None:
        """Run one piece on every sample and keep what later pieces read."""
        piece = pieces[index]
        inputs = [v for v in _read(piece) if (v.name or "") in self._live]
        outputs = [
            v
            for node in piece.nodes
            for v in node.outputs
            if self._last_reader.get(v.name or "", -1) > index
        ]
        if outputs:
            session = self.executor.load(self._model(piece, inputs, outputs), exact=True)
            names = [v.name or "" for v in inputs]

            def one(sample: int) -> list[np.ndarray]:
                return session.run({name: self._live[name][sample] for name in names})

            results = ordered_map(one, range(len(self.feeds)), self.threads)
            for position, value in enumerate(outputs):
                self._live[value.name or ""] = [result[position] for result in results]
        for name in self._last_read[index]:
            self._live.pop(name, None)

    def values(self, name: str) -> Iterator[np.ndarray]:
        """What an integer node that reads ``name`` sees of it, as floats, one sample at a time."""
        entry = self.plan.values[name]
        assert entry.params is not None
        scale, zero = entry.params.scale, entry.params.zero_point
        for x in self._live[name]:
            is_integer = np.issubdtype(x.dtype, np.integer)
            integers = x if is_integer else quantize(x, scale, zero, entry.dtype)
            yield dequantize(integers, scale, zero)

    def stored(self, name: str, reader: str | None = None) -> tuple[list[np.ndarray], int]:
        """What the node ``reader`` sees of a value, one array a sample, and its zero point.

        Integers of the plan's parameters; floats where the plan has none (for a dynamic node).
        """
        entry, live = self.plan.quantized(self.plan.seen_by(reader, name)), self._live[name]
        if entry is None or entry.params is None:
            return live, 0
        scale, zero = entry.params.scale, entry.params.zero_point
        own = self.plan.quantized(name)

        def seen(x: np.ndarray) -> np.ndarray:
            if x.dtype == storage_type(entry.dtype):
                return x
            if np.issubdtype(x.dtype, np.integer) and own is not None and own.params is not None:
                x = dequantize(x, own.params.scale, own.params.zero_point)
            return quantize(x, scale, zero, entry.dtype)

        return [seen(x) for x in live], int(zero)

    def _model(
        self, piece: Piece, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]
    ) -> ir.Model:
        if any(map(_has_body, piece.nodes)):
            graph = ir.convenience.extract(self.graph, inputs, outputs)
        else:
            graph = _copy(piece, inputs, outputs)
        graph.opset_imports.update(self.opset_imports)
        model = ir.Model(graph, ir_version=10)
        ends = {v.name or "" for v in (*inputs, *outputs) if self._made_by_integer(v)}
        # Only what the piece holds, or the cost would grow with the square of the graph.
        own = [value.name or "" for value in g.values(graph)]
        names = dict.fromkeys(name for value in own for name in (value, wide_name(value)))
        values = {name: self.plan.values[name] for name in names if name in self.plan.values}
        InsertQDQ(replace(self.plan, values=values), frozenset(ends))(model)
        return model

    def _made_by_integer(self, value: ir.Value) -> bool:
        node = value.producer()
        return (
            node is not None
            and self.plan.mode(node.name) in {"integer", "absorbed"}
            and self.plan.quantized(value.name) is not None
        )


def _read(piece: Piece) -> list[ir.Value]:
    """The computed values a piece reads and does not make, each once, in order."""
    made = {v for node in piece.nodes for v in node.outputs}
    read = dict.fromkeys(
        v
        for node in piece.nodes
        for v in (*node.inputs, *_captured(node))
        if v is not None and v not in made and not v.is_initializer()
    )
    return [v for v in read if g.constant(v) is None]


def _captured(node: ir.Node) -> list[ir.Value]:
    """Values of the graph itself that the bodies of an If or Loop read."""
    found = []
    for attr in node.attributes.values():
        if attr.type == ir.AttributeType.GRAPH:
            body = attr.as_graph()
            for inner in ir.traversal.RecursiveGraphIterator(body):
                found += [v for v in inner.inputs if v is not None and v.graph is node.graph]
    return found


def _has_body(node: ir.Node) -> bool:
    bodies = {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}
    return any(attr.type in bodies for attr in node.attributes.values())


def _copy(piece: Piece, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Graph:
    """The nodes of a piece as a graph of their own that shares their constants."""
    copies: dict[ir.Value, ir.Value] = {}

    def copied(value: ir.Value) -> ir.Value:
        if value not in copies:
            copies[value] = ir.Value(name=value.name, shape=value.shape, type=value.type)
        return copies[value]

    made = [copied(value) for value in inputs]
    graph = ir.Graph(made, [], nodes=[], name="piece")
    for node in piece.nodes:
        for value in node.inputs:
            if value is not None and value not in copies:
                copied(value).const_value = value.const_value
                graph.register_initializer(copies[value])
        read = [None if v is None else copies[v] for v in node.inputs]
        made = [copied(value) for value in node.outputs]
        attributes = tuple(node.attributes.values())
        graph.append(
            ir.Node(node.domain, node.op_type, read, attributes, outputs=made, name=node.name)
        )
    graph.outputs.extend(copies[value] for value in outputs)
    return graph
