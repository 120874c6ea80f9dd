"""Copies of an ONNX file that also return inner values, or that end at them."""

from collections.abc import Sequence
from typing import TypeVar

import onnx

T = TypeVar("T", onnx.NodeProto, onnx.TensorProto, onnx.ValueInfoProto)


def exposed(artefact: bytes, names: Sequence[str]) -> bytes:
    """The file with inner values as further outputs, behind its own.

    ONNX Runtime fuses nothing across a value that is an output: expose what a quantizer makes, and
    integer kernels stay as they are.

    Args:
        artefact: the file; its weights are inside.
        names: values that nodes of its main graph make.
    """
    model = onnx.load_from_string(artefact)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in known)
    data: bytes = model.SerializeToString()
    return data


def cut(artefact: bytes, names: Sequence[str]) -> bytes:
    """The file with these values as its only outputs, without what none of them needs.

    Inputs that are not needed stay: the same feeds run it.

    Args:
        artefact: the file; its weights are inside.
        names: values that nodes of its main graph make.
    """
    model = onnx.load_from_string(artefact)
    graph = model.graph
    known = {output.name: output for output in graph.output}
    kept = [known.get(name) or onnx.ValueInfoProto(name=name) for name in names]
    needed = set(names)
    nodes = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        nodes.append(node)
        needed.update(node.input)
        needed.update(name for sub in _subgraphs(node) for name in _read(sub))
    # Copied before the field that holds them is emptied.
    nodes = [_copied(node) for node in reversed(nodes)]
    weights = [_copied(t) for t in graph.initializer if t.name in needed]
    outputs = [_copied(value) for value in kept]
    for field, entries in (("node", nodes), ("initializer", weights), ("output", outputs)):
        graph.ClearField(field)
        getattr(graph, field).extend(entries)
    data: bytes = model.SerializeToString()
    return data


def _copied(record: T) -> T:
    copy = type(record)()
    copy.CopyFrom(record)
    return copy


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    found = [a.g for a in node.attribute if a.HasField("g")]
    return [*found, *(g for a in node.attribute for g in a.graphs)]


def _read(graph: onnx.GraphProto) -> set[str]:
    """Names that a subgraph reads, its own among them."""
    read = {name for node in graph.node for name in node.input}
    read |= {output.name for output in graph.output}
    return read.union(*(_read(sub) for node in graph.node for sub in _subgraphs(node)))
