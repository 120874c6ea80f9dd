"""Edits that the prepare passes share: each keeps value names, graph outputs and sources right."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import inherit, make_initializer, unique_name, unique_node_name

Attribute = int | float | str | Sequence[int]

GRID_KEYS = (
    "qcompile.grid_scale",
    "qcompile.grid_zero_point",
    "qcompile.grid_axis",
    "qcompile.grid_type",
)
"""metadata_props of a weight that lies on an integer grid already (see FoldConstants)."""


def graph_of(node: ir.Node) -> ir.Graph:
    """The graph that holds a node; prepare passes walk the main graph only."""
    assert isinstance(node.graph, ir.Graph)
    return node.graph


def walk(model: ir.Model, visit: Callable[[ir.Node], bool]) -> ir.passes.PassResult:
    """Visit every node of the main graph until a whole round changes nothing.

    ``visit`` returns whether it changed the graph; it may remove any node. Subgraphs are not
    visited: their nodes stay float.
    """
    modified = False
    changed = True
    while changed:
        changed = False
        for node in tuple(model.graph):
            if node.graph is not None and visit(node):
                changed = True
        modified |= changed
    return ir.passes.PassResult(model, modified=modified)


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether a node is one of the standard operators named."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types


def is_float(value: ir.Value | None) -> bool:
    """Whether a value is known to be of a floating type."""
    return value is not None and value.dtype is not None and value.dtype.is_floating_point()


def is_single(value: ir.Value | None) -> bool:
    """Whether a value is of a floating type but double, for which runtimes lack many kernels."""
    return is_float(value) and value is not None and value.dtype != ir.DataType.DOUBLE


def is_constant(value: ir.Value | None) -> bool:
    """Whether ``core.graph.constant`` gives an array for the value; loads nothing."""
    return value is not None and value.const_value is not None and not value.is_graph_input()


def has_input(node: ir.Node, index: int) -> bool:
    """Whether an optional input is given."""
    return len(node.inputs) > index and node.inputs[index] is not None


def operand(node: ir.Node, index: int) -> ir.Value:
    """A mandatory input."""
    value = node.inputs[index]
    assert value is not None
    return value


def replace(
    root: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    pass_name: str,
    *,
    attributes: Mapping[str, Attribute] | None = None,
) -> ir.Node:
    """Put a new node in the place of ``root``: same output name, shape and type, same node name.

    Whatever fed ``root`` and feeds nobody now is removed; the new node stands for all of it.

    Args:
        root: the node to replace; it has one output.
        op_type: standard operator of the new node.
        inputs: its inputs; they must be defined before ``root``.
        pass_name: who asks.
        attributes: attributes of the new node.
    """
    graph = graph_of(root)
    old = root.outputs[0]
    output = ir.Value(name=old.name, shape=old.shape, type=old.type)
    new = ir.node(op_type, inputs, attributes, outputs=[output], name=root.name)
    graph.insert_before(root, new)
    old.replace_all_uses_with(output, replace_graph_outputs=True)
    fed = tuple(root.inputs)
    graph.remove(root, safe=True)
    return inherit(new, pass_name, *prune(fed), root)


def insert(
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    output_name: str,
    pass_name: str,
    *,
    like: ir.Value,
    attributes: Mapping[str, Attribute] | None = None,
    source: ir.Node | None = None,
) -> ir.Value:
    """Add a node before another one and return its output, of the shape and type of ``like``."""
    graph = graph_of(before)
    output = ir.Value(name=unique_name(graph, output_name), shape=like.shape, type=like.type)
    name = unique_node_name(graph, output_name)
    new = ir.node(op_type, inputs, attributes, outputs=[output], name=name)
    inherit(new, pass_name, source or before)
    graph.insert_before(before, new)
    return output


def absorb(keep: ir.Node, gone: ir.Node, pass_name: str) -> None:
    """``keep`` now does the work of ``gone``, its only consumer, and takes over its output.

    The output of ``keep`` gets the name, shape and type of the output of ``gone``.
    """
    old, new = gone.outputs[0], keep.outputs[0]
    name, shape, type_ = old.name, old.shape, old.type
    inherit(keep, pass_name, keep, gone)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    fed = tuple(gone.inputs)
    graph_of(gone).remove(gone, safe=True)
    new.name, new.shape, new.type = name, shape, type_
    prune(v for v in fed if v is not new)


def bypass(node: ir.Node, value: ir.Value) -> bool:
    """Remove ``node``, whose first output equals ``value``; False when it has to stay.

    It has to stay between a graph output and a graph input, initializer or other graph output:
    both names are part of the model's contract.
    """
    old = node.outputs[0]
    if old.is_graph_output():
        producer = value.producer()
        if producer is None or value.is_graph_output() or producer.graph is not node.graph:
            return False
        name, shape = old.name, old.shape
        old.replace_all_uses_with(value, replace_graph_outputs=True)
        graph_of(node).remove(node, safe=True)
        value.name, value.shape = name, shape
    else:
        old.replace_all_uses_with(value)
        graph_of(node).remove(node, safe=True)
    return True


def prune(values: Iterable[ir.Value | None]) -> list[ir.Node]:
    """Remove the nodes that made these values if nobody reads them any more, and so on upwards.

    Returns:
        The nodes removed, each before what read it.
    """
    removed: list[ir.Node] = []
    todo = [v for v in values if v is not None]
    while todo:
        producer = todo.pop().producer()
        if producer is None or producer.graph is None:
            continue
        if any(o.uses() or o.is_graph_output() for o in producer.outputs):
            continue
        todo.extend(v for v in producer.inputs if v is not None)
        producer.graph.remove(producer, safe=True)
        removed.append(producer)
    return removed[::-1]


def set_constant(node: ir.Node, index: int, array: np.ndarray, name: str | None = None) -> None:
    """Give input ``index`` of a node a new constant.

    An initializer that only this node reads is changed in place and keeps its name; one that
    others read too stays as it is and the node gets its own.

    Args:
        node: the node whose input is set.
        index: which input; may be one past the last.
        array: the new constant.
        name: wanted name where the input is not given yet.
    """
    old = node.inputs[index] if has_input(node, index) else None
    if old is not None and _is_own(old):
        old.const_value = ir.tensor(np.asarray(array, order="C"), name=old.name)
        old.shape = ir.Shape(array.shape)
        old.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        for key in GRID_KEYS:
            old.metadata_props.pop(key, None)
        return
    wanted = (old.name if old is not None else None) or name or f"{node.name}.constant"
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, make_initializer(graph_of(node), wanted, array))


def _is_own(value: ir.Value) -> bool:
    """Whether a value is an initializer that one node reads and nobody outside knows."""
    if not value.is_initializer() or value.is_graph_output() or value.is_graph_input():
        return False
    return len(value.uses()) == 1
