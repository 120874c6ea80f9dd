"""Refuses a graph that is not one: names defined twice or never, circles, operators nobody knows.

Works on the message as it was read, where every name is still the user's own. Plain walks; the
types and shapes are left to shape inference.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from qcompile.compiler.importers.attributes import check_call, check_tensor_type
from qcompile.core.errors import Code, QCompileError

OLDEST_OPSET = 7

OperatorKey = tuple[str, str]
"""Domain (``""`` for ONNX's own) and operator."""


@dataclass(frozen=True)
class Operators:
    """Which operators a model may use, and from where they come."""

    opsets: Mapping[str, int]
    functions: frozenset[OperatorKey]
    contributed: Callable[[], frozenset[OperatorKey] | None]
    """The runtime's own operators, or None when the runtime does not tell."""


def check_model(proto: onnx.ModelProto, operators: Operators) -> None:
    """Check a model as read.

    Raises:
        QCompileError: OPSET_UNSUPPORTED, UNKNOWN_OP, MODEL_INVALID or MODEL_CYCLIC, naming the
            node or value.
    """
    newest = onnx.defs.onnx_opset_version()
    version = operators.opsets.get("")
    if version is not None and not OLDEST_OPSET <= version <= newest:
        hint = f"export the model again with an opset from {OLDEST_OPSET} to {newest}"
        raise QCompileError(
            Code.OPSET_UNSUPPORTED,
            f"the model uses opset {version}; qcompile reads {OLDEST_OPSET} to {newest}",
            node=_label(proto.graph.node[0]) if proto.graph.node else None,
            hint=hint,
        )
    if not proto.graph.output:
        raise QCompileError(Code.MODEL_INVALID, "the model has no output")
    for info in proto.graph.input:
        if info.type.HasField("tensor_type"):
            check_tensor_type(info.type.tensor_type.elem_type, f"input {info.name}")
        elif not info.type.WhichOneof("value"):
            raise _invalid(f"input {info.name} has no type")
    _check_graph(proto.graph, set())
    _check_operators(proto.graph.node, operators)
    for function in proto.functions:
        _check_nodes(function.node, set(function.input), f"function {function.name}")
        _check_operators(
            function.node,
            Operators(opsets_of(function), operators.functions, operators.contributed),
        )


def opsets_of(proto: onnx.ModelProto | onnx.FunctionProto) -> dict[str, int]:
    """Domain to version, with ONNX's own domain always spelled ``""``."""
    return {"" if o.domain == "ai.onnx" else o.domain: o.version for o in proto.opset_import}


def _check_graph(graph: onnx.GraphProto, outer: set[str]) -> None:
    """Check the names of one graph; ``outer`` are those it may capture."""
    ends = (info.name for info in (*graph.input, *graph.output, *graph.value_info))
    if not _is_text(graph.name, *ends, *(tensor.name for tensor in graph.initializer)):
        raise _invalid("a graph holds names that are not UTF-8")
    own: set[str] = set()
    for info in graph.input:
        if info.name in own:
            raise _invalid(f"the graph {graph.name} has two inputs named {info.name}")
        own.add(info.name)
    seen: set[str] = set()
    for tensor in graph.initializer:
        check_tensor_type(tensor.data_type, f"initializer {tensor.name}")
        if tensor.name in seen:
            raise _invalid(f"the graph {graph.name} has two initializers named {tensor.name}")
        seen.add(tensor.name)
    own |= seen
    own |= {sparse.values.name for sparse in graph.sparse_initializer}
    produced = _check_nodes(graph.node, own, f"graph {graph.name}", outer)
    for info in graph.output:
        if info.name not in produced and info.name not in outer:
            raise _invalid(f"nothing produces the output {info.name} of graph {graph.name}")


def _check_nodes(
    nodes: Sequence[onnx.NodeProto],
    available: set[str],
    where: str,
    outer: set[str] | None = None,
) -> set[str]:
    """Check that every name is defined once and can be computed; returns all names defined."""
    outer = outer or set()
    maker = _makers(nodes, available, where)
    everything = available | maker.keys()
    for node in nodes:
        for name in node.input:
            if name and name not in everything and name not in outer:
                raise _invalid(f"{name} is read but nothing produces it", node)
        for graph in _subgraphs(node):
            _check_graph(graph, everything | outer)
    _check_acyclic(nodes, available | outer, maker)
    return everything


def _makers(
    nodes: Sequence[onnx.NodeProto], available: set[str], where: str
) -> dict[str, onnx.NodeProto]:
    """Which node produces a name; each may be produced once."""
    maker: dict[str, onnx.NodeProto] = {}
    for node in nodes:
        attributes = (attribute.name for attribute in node.attribute)
        names = (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
        if not _is_text(*names, *attributes):
            raise _invalid(f"a node of {where} has names that are not UTF-8")
        for name in filter(None, node.output):
            if name in maker:
                raise _invalid(
                    f"two nodes of {where} produce {name}: {_label(maker[name])} and {_label(node)}"
                )
            if name in available:
                raise _invalid(f"{name} is an input or initializer and also produced", node)
            maker[name] = node
    return maker


def _is_text(*texts: object) -> bool:
    """Whether all are strings: protobuf hands out bytes for text that is not UTF-8."""
    return all(isinstance(text, str) for text in texts)


def _check_acyclic(
    nodes: Sequence[onnx.NodeProto], ready: set[str], maker: Mapping[str, onnx.NodeProto]
) -> None:
    """Refuse a circle; a graph that is merely out of order is sorted later."""
    ready = set(ready)
    pending: list[tuple[onnx.NodeProto, set[str]]] = []
    for node in nodes:
        needs = {name for name in _reads(node) if name in maker and name not in ready}
        if needs:
            pending.append((node, needs))
        else:
            ready.update(node.output)
    waiting: dict[str, list[int]] = {}
    for index, (_, needs) in enumerate(pending):
        for name in needs:
            waiting.setdefault(name, []).append(index)
    released = [name for name in waiting if name in ready]
    while released:
        for index in waiting.pop(released.pop(), ()):
            node, needs = pending[index]
            needs.intersection_update(waiting)
            if not needs:
                released.extend(name for name in node.output if name in waiting)
    stuck = [(node, needs) for node, needs in pending if needs]
    if stuck:
        raise _circle(stuck, maker)


def _circle(
    stuck: Sequence[tuple[onnx.NodeProto, set[str]]], maker: Mapping[str, onnx.NodeProto]
) -> QCompileError:
    """Walk back from a node that waits, always along a value that waits, until one comes again."""
    needs_of = {id(node): needs for node, needs in stuck}
    node = stuck[0][0]
    way: list[onnx.NodeProto] = []
    visited: dict[int, int] = {}
    while id(node) not in visited:
        visited[id(node)] = len(way)
        way.append(node)
        node = next(maker[name] for name in sorted(needs_of[id(node)]))
    circle = way[visited[id(node)] :][::-1]
    names = [_label(member) for member in circle]
    shown = names if len(names) <= 6 else [*names[:5], "..."]
    return QCompileError(
        Code.MODEL_CYCLIC,
        f"the graph runs in a circle: {' -> '.join([*shown, names[0]])}",
        node=names[0],
    )


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names a node reads, those its subgraphs capture included."""
    yield from (name for name in node.input if name)
    for graph in _subgraphs(node):
        inner = {i.name for i in graph.input} | {t.name for t in graph.initializer}
        inner |= {name for child in graph.node for name in child.output}
        yield from (name for child in graph.node for name in _reads(child) if name not in inner)
        yield from (info.name for info in graph.output if info.name not in inner)


def _check_operators(nodes: Sequence[onnx.NodeProto], operators: Operators) -> None:
    for node in nodes:
        domain = "" if node.domain == "ai.onnx" else node.domain
        key = (domain, node.op_type)
        schema = None
        if key not in operators.functions:
            schema = _usable_schema(key, operators.opsets)
            if schema is None:
                _check_contributed(node, key, operators)
        check_call(node, schema, _label(node))
        for graph in _subgraphs(node):
            _check_operators(graph.node, operators)


def _usable_schema(key: OperatorKey, opsets: Mapping[str, int]) -> onnx.defs.OpSchema | None:
    """What ONNX says of an operator in the model's opset; None when it is not one."""
    domain, op_type = key
    version = opsets.get(domain)
    schema = None if version is None else _schema(op_type, version, domain)
    if schema is None or not schema.deprecated:
        return schema
    # GroupNormalization was withdrawn in the opset it came with, and put right in a later one.
    later = _schema(op_type, onnx.defs.onnx_opset_version(), domain)
    return None if later is None or later.deprecated else schema


def _schema(op_type: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


def _check_contributed(node: onnx.NodeProto, key: OperatorKey, operators: Operators) -> None:
    """Accept what the runtime has beyond ONNX; a few of those stand in ONNX's own domain."""
    domain, op_type = key
    if domain == "" and op_type in _standard_operators():
        raise _wrong_opset(node, operators.opsets.get(""))
    known = operators.contributed()
    if known is None or key in known:
        return
    name = f"{domain}.{op_type} is a custom operator" if domain else f"{op_type} is an operator"
    raise QCompileError(
        Code.UNKNOWN_OP,
        f"{name} that neither ONNX nor ONNX Runtime has",
        node=_label(node),
        hint="export the model without it, or with it as a model-local function",
    )


@functools.cache
def _standard_operators() -> frozenset[str]:
    schemas = onnx.defs.get_all_schemas_with_history()
    return frozenset(schema.name for schema in schemas if schema.domain == "")


def _wrong_opset(node: onnx.NodeProto, version: int | None) -> QCompileError:
    if version is None:
        return _invalid("the model does not say which version of ONNX's operators it uses", node)
    return QCompileError(
        Code.UNKNOWN_OP,
        f"{node.op_type} is not an operator of opset {version}, which the model says it uses",
        node=_label(node),
    )


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def _label(node: onnx.NodeProto) -> str:
    """A node's name, or where it has none, its operator and first output."""
    if node.name:
        return str(node.name)
    output = next((name for name in node.output if name), "")
    return f"{node.op_type} -> {output}" if output else str(node.op_type)


def _invalid(message: str, node: onnx.NodeProto | None = None) -> QCompileError:
    return QCompileError(Code.MODEL_INVALID, message, node=_label(node) if node else None)
