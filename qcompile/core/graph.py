"""Small questions asked of an onnx_ir graph, and edits that keep its book-keeping right."""

import hashlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import numpy as np
import onnx_ir as ir

SOURCE_KEY = "qcompile.source"
"""metadata_props key: names of the user's nodes a node stands for, separated by newlines."""
PASS_KEY = "qcompile.pass"
"""metadata_props key: the pass that made a node."""
STAYS_FLOAT_KEY = "qcompile.stays_float"
"""metadata_props key: why a node must not be quantized, whatever kernels there are."""


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of an initializer or of a Constant node's output; None when it is computed.

    An initializer that is also a graph input can be overridden by the caller: not constant.
    """
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The single number of a constant, or None."""
    array = constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def attribute_int(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute or its default."""
    attr = node.attributes.get(name)
    return default if attr is None else attr.as_int()


def attribute_ints(node: ir.Node, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
    """An attribute that is a list of integers, or its default."""
    attr = node.attributes.get(name)
    return tuple(default) if attr is None else tuple(attr.as_ints())


def attribute_str(node: ir.Node, name: str, default: str) -> str:
    """A string attribute or its default."""
    attr = node.attributes.get(name)
    return default if attr is None else attr.as_string()


def attribute_float(node: ir.Node, name: str, default: float) -> float:
    """A float attribute or its default."""
    attr = node.attributes.get(name)
    return default if attr is None else attr.as_float()


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The node of the same graph that alone reads a value, once.

    None when it is read elsewhere (the body of an If counts) or is an output.
    """
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    reader = uses[0].node
    return reader if value.graph is None or reader.graph is value.graph else None


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape when every dimension is a number."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(d) for d in value.shape.numpy())


def rank(value: ir.Value | None) -> int | None:
    """The number of dimensions, if known."""
    return None if value is None or value.shape is None else len(value.shape)


def make_initializer(
    graph: ir.Graph, name: str, array: np.ndarray, dtype: ir.DataType | None = None
) -> ir.Value:
    """Register a new initializer under a name made unique from ``name``.

    ``dtype``: its element type where that is smaller than numpy's, as INT4 for an array of int8.
    """
    kind = ir.DataType.from_numpy(array.dtype) if dtype is None else dtype
    stored = np.asarray(array, order="C").astype(kind.numpy(), copy=False)
    value = ir.Value(
        name=unique_name(graph, name),
        const_value=ir.Tensor(stored, dtype=kind),
        shape=ir.Shape(array.shape),
        type=ir.TensorType(kind),
    )
    graph.register_initializer(value)
    return value


def unique_name(graph: ir.Graph, wanted: str) -> str:
    """``wanted``, or ``wanted_1``, ``wanted_2``... when a value of the graph has that name.

    Subgraphs count too. Costs a set look-up after the first call on a graph: names are remembered
    in ``graph.meta``.
    """
    return _unused(_taken(graph, "qcompile.names", values), wanted)


def unique_node_name(graph: ir.Graph, wanted: str) -> str:
    """``wanted``, or ``wanted_1``, ``wanted_2``... when a node has that name; as unique_name."""
    return _unused(_taken(graph, "qcompile.node_names", iter), wanted)


def _taken(
    graph: ir.Graph, key: str, named: Callable[[ir.Graph], Iterable[ir.Value | ir.Node]]
) -> set[str]:
    """The names of a kind that the graph and its subgraphs use, as remembered under ``key``."""
    owner, taken = graph.meta.get(key, (None, set()))
    if owner is None or owner() is not graph:  # a clone takes over its original's notes
        taken = {item.name for g in _with_subgraphs(graph) for item in named(g) if item.name}
        graph.meta[key] = (weakref.ref(graph), taken)
    return cast("set[str]", taken)


def _unused(taken: set[str], wanted: str) -> str:
    name, n = wanted, 0
    while name in taken:
        n += 1
        name = f"{wanted}_{n}"
    taken.add(name)
    return name


def _with_subgraphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    yield graph
    for node in graph:
        for attr in node.attributes.values():
            if attr.type == ir.AttributeType.GRAPH:
                yield from _with_subgraphs(attr.as_graph())
            elif attr.type == ir.AttributeType.GRAPHS:
                for inner in attr.as_graphs():
                    yield from _with_subgraphs(inner)


def values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Every value of the graph itself: inputs, initializers, node outputs (not of subgraphs)."""
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def sources(node: ir.Node) -> tuple[str, ...]:
    """Names of the user's nodes that ``node`` stands for."""
    text = node.metadata_props.get(SOURCE_KEY)
    if text:
        return tuple(text.split("\n"))
    return (node.name,) if node.name else ()


def inherit(new: ir.Node, pass_name: str, *old: ir.Node) -> ir.Node:
    """Record that ``new`` was made by ``pass_name`` and stands for the ``old`` nodes."""
    names = dict.fromkeys(name for node in old for name in sources(node))
    if names:
        new.metadata_props[SOURCE_KEY] = "\n".join(names)
    new.metadata_props[PASS_KEY] = pass_name
    return new


def fingerprint(model: ir.Model) -> str:
    """Hash of a graph's function: ops, attributes, connections, constants, ends.

    It does not change with documentation strings, metadata or where tensors are stored.
    """
    digest = _Digest()
    digest.graph(model.graph)
    return digest.hexdigest()[:16]


class _Digest:
    """SHA-256 of what a graph computes; each part says where it ends, so no two run together."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def text(self, *parts: object) -> None:
        self._hash.update("\x1f".join(map(str, parts)).encode())
        self._hash.update(b"\x1e")

    def tensor(self, tensor: ir.TensorProtocol) -> None:
        self.text(tensor.dtype, tuple(tensor.shape))
        self._hash.update(tensor.tobytes())

    def graph(self, graph: ir.Graph) -> None:
        for value in (*graph.inputs, *graph.outputs):
            self.text("end", value.name, value.type, value.shape)
        for name in sorted(graph.initializers):
            tensor = graph.initializers[name].const_value
            if tensor is not None:
                self.text("init", name)
                self.tensor(tensor)
        for node in graph:
            self.text("node", node.domain, node.op_type, node.name)
            self.text(*(v.name if v is not None else "" for v in node.inputs))
            self.text(*(v.name for v in node.outputs))
            for key in sorted(node.attributes):
                self.attribute(node.attributes[key])

    def attribute(self, attr: ir.Attr) -> None:
        self.text(attr.name, attr.type.name)
        match attr.type:
            case ir.AttributeType.GRAPH:
                self.graph(attr.as_graph())
            case ir.AttributeType.GRAPHS:
                for graph in attr.as_graphs():
                    self.graph(graph)
            case ir.AttributeType.TENSOR:
                self.tensor(attr.as_tensor())
            case ir.AttributeType.TENSORS:
                for tensor in attr.as_tensors():
                    self.tensor(tensor)
            case _:
                self.text(attr.value)
