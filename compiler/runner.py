"""Runs passes, one after the other, and holds each to its word: a whole graph out, the time it
took, whether it changed anything.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from qcompile.core.errors import Code, QCompileError


@dataclass(frozen=True)
class PassRecord:
    """What one pass did."""

    name: str
    seconds: float
    changed: bool
    """As the pass says."""
    nodes: int
    """Nodes of the main graph afterwards."""
    before: Mapping[str, int]
    """Operator -> how many nodes of it the main graph had before."""
    after: Mapping[str, int]
    """The same afterwards."""

    @property
    def difference(self) -> dict[str, int]:
        """Operator -> how many more there are now; those that stayed the same are left out."""
        ops = sorted({*self.before, *self.after})
        change = {op: self.after.get(op, 0) - self.before.get(op, 0) for op in ops}
        return {op: count for op, count in change.items() if count}


class PassObserver(Protocol):
    """Is told of every pass when it is done and its graph has been found sound."""

    def __call__(self, record: PassRecord, model: ir.Model) -> None:
        """Look, and do not change the model."""


def run_passes(
    model: ir.Model,
    passes: Sequence[ir.passes.PassBase],
    *,
    observer: PassObserver | None = None,
    dump_dir: Path | None = None,
) -> list[PassRecord]:
    """Run each pass once, in order, on a model that is changed in place.

    Args:
        model: the model.
        passes: in-place passes.
        observer: told of each pass.
        dump_dir: folder (made if need be) for ``NN_PassName.onnx`` and ``.txt`` after each pass
            that changed something; NN is the pass's place in the list, from 00.

    Raises:
        QCompileError: INTERNAL naming the pass, when it raises anything but a QCompileError, or
            leaves a graph that is broken; OUTPUT_UNWRITABLE when a dump cannot be written.
    """
    records: list[PassRecord] = []
    for index, step in enumerate(passes):
        name = type(step).__name__
        before = Counter(_op(node) for node in model.graph)
        started = time.perf_counter()
        changed = _run(step, name, model)
        seconds = time.perf_counter() - started
        fault = find_fault(model)
        if fault is not None:
            raise QCompileError(Code.INTERNAL, f"pass {name} left a broken graph: {fault}")
        after = Counter(_op(node) for node in model.graph)
        record = PassRecord(name, seconds, changed, len(model.graph), before, after)
        records.append(record)
        if dump_dir is not None and changed:
            dump(model, dump_dir / f"{index:02d}_{name}")
        if observer is not None:
            observer(record, model)
    return records


def _run(step: ir.passes.PassBase, name: str, model: ir.Model) -> bool:
    try:
        result = step(model)
    except QCompileError:
        raise  # a user's model that the pass cannot take, said in the user's words
    except Exception as error:
        cause = error.__cause__ or error
        raise QCompileError(
            Code.INTERNAL,
            f"pass {name} failed: {type(cause).__name__}: {cause}",
            hint="please report this, with the model if you can",
        ) from error
    if result.model is not model:
        raise QCompileError(Code.INTERNAL, f"pass {name} made a new model, it must change it")
    return result.modified


def dump(model: ir.Model, stem: Path) -> None:
    """Write ``stem.onnx`` and ``stem.txt``; the weights of a large model go to ``stem.onnx.data``.

    Raises:
        QCompileError: OUTPUT_UNWRITABLE.
    """
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        data = stem.with_name(stem.name + ".onnx.data") if _is_large(model) else None
        external = data.name if data is not None else None
        ir.save(model, stem.with_name(stem.name + ".onnx"), external_data=external)
        stem.with_name(stem.name + ".txt").write_text(f"{model}\n", encoding="utf-8")
    except OSError as error:
        raise QCompileError(
            Code.OUTPUT_UNWRITABLE, f"cannot write a dump to {stem.parent}: {error.strerror}"
        ) from error


def _is_large(model: ir.Model) -> bool:
    tensors = [value.const_value for value in model.graph.initializers.values()]
    if any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors):
        return True
    return sum(tensor.nbytes for tensor in tensors if tensor is not None) > 1 << 30


def find_fault(model: ir.Model) -> str | None:
    """The first thing wrong with a model's graph, or None; a plain walk, linear in its size.

    Every value a node reads or the graph returns is made by an earlier node of the graph or one
    around it, or is an input or initializer; names of values and of nodes are unique in the whole
    model and not empty.
    """
    return next(_faults(model.graph, set(), {}, {}), None)


ValueNames = dict[str, ir.Value]
NodeNames = dict[str, ir.Node]


def _faults(
    graph: ir.Graph, outer: set[ir.Value], value_names: ValueNames, node_names: NodeNames
) -> Iterator[str]:
    ends = dict.fromkeys((*graph.inputs, *graph.initializers.values()))
    for value in ends:
        yield from _value_name_faults(value, value_names)
    yield from _initializer_faults(graph)
    known = outer | ends.keys()
    for node in graph:
        yield from _node_name_faults(node, node_names)
        yield from (_not_known(v, node) for v in node.inputs if v is not None and v not in known)
        for inner in _subgraphs(node):
            yield from _faults(inner, known, value_names, node_names)
        for output in node.outputs:
            known.add(output)
            yield from _value_name_faults(output, value_names)
    for output in graph.outputs:
        if output not in known:
            yield f"nothing produces the output {output.name} of graph {graph.name}"


def _initializer_faults(graph: ir.Graph) -> Iterator[str]:
    for name, value in graph.initializers.items():
        if name != value.name:
            yield f"initializer {value.name} is registered as {name}"
        if value.const_value is None:
            yield f"initializer {name} has no data"


def _not_known(value: ir.Value, node: ir.Node) -> str:
    maker = value.producer()
    if maker is None:
        return f"node {node.name} reads {value.name}, which nothing produces"
    if maker.graph is None:
        return f"node {node.name} reads {value.name} of node {maker.name}, which was removed"
    return f"node {node.name} reads {value.name} before node {maker.name} produces it"


def _value_name_faults(value: ir.Value, names: dict[str, ir.Value]) -> Iterator[str]:
    if not value.name:
        # An optional output that nobody asks for has no name.
        if value.uses() or value.is_graph_output() or value.producer() is None:
            maker = value.producer()
            yield f"a value of node {maker.name if maker else '(none)'} has no name"
    elif names.setdefault(value.name, value) is not value:
        yield f"two values are named {value.name}"


def _node_name_faults(node: ir.Node, names: dict[str, ir.Node]) -> Iterator[str]:
    if not node.name:
        yield f"a {node.op_type} node has no name"
    elif names.setdefault(node.name, node) is not node:
        yield f"two nodes are named {node.name}"


def _subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _op(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type
