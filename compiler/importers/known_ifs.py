"""Puts the branch of an If in its place where its condition is known before the model runs."""

import onnx_ir as ir

from qcompile.compiler.importers.tensors import graphs_of, subgraphs_of
from qcompile.core.graph import constant, inherit, unique_node_name

PASS_NAME = "InlineKnownIfs"


def inline_known_ifs(model: ir.Model) -> list[str]:
    """Replace every If whose condition is a constant by the branch that runs, in place.

    Names must be unique in the whole model, and stay so. Outputs keep their names where the model
    knows them. A condition becomes a constant where shapes decide it and ``--shape`` fixes them.

    Returns:
        Names of the Ifs that are gone.
    """
    gone = []
    for graph in graphs_of(model, functions=False):
        for node in list(graph):
            taken = _branch(node) if node.graph is graph else None
            if taken is not None:
                gone.append(node.name or "")
                _inline(node, taken, graph)
    return gone


def _branch(node: ir.Node) -> ir.Graph | None:
    if node.domain not in ("", "ai.onnx") or node.op_type != "If":
        return None
    condition = constant(node.inputs[0])
    if condition is None or condition.size != 1:
        return None
    name = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
    attribute = node.attributes.get(name)
    return None if attribute is None or attribute.is_ref() else attribute.as_graph()


def _inline(node: ir.Node, branch: ir.Graph, graph: ir.Graph) -> None:
    results = list(branch.outputs)
    branch.outputs.clear()
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        graph.register_initializer(value)
    moved = list(branch)
    branch.remove(moved)
    graph.insert_before(node, moved)
    made = {value for one in moved for value in one.outputs}
    for old, new in zip(node.outputs, results, strict=True):
        if old.is_graph_output() and (new not in made or new.is_graph_output()):
            new = _copied(new, node, graph)
        _take_place(old, new)
    for other in subgraphs_of(node):
        _let_go(other)
    condition = node.inputs[0]
    graph.remove(node, safe=True)
    is_read = condition is None or condition.uses() or condition.is_graph_output()
    if not is_read and condition is not None and condition.graph is not None:
        condition.graph.initializers.pop(condition.name or "", None)


def _copied(value: ir.Value, node: ir.Node, graph: ir.Graph) -> ir.Value:
    """A value of its own for an output of the graph, where the branch hands on another's."""
    copy = ir.Node("", "Identity", [value], name=unique_node_name(graph, f"{node.name}_copy"))
    graph.insert_before(node, inherit(copy, PASS_NAME, node))
    copy.outputs[0].name = f"{value.name}_of_{node.name}"
    copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
    return copy.outputs[0]


def _take_place(old: ir.Value, new: ir.Value) -> None:
    """``new`` serves what read ``old``, under its name where the graph gives it away."""
    is_output = old.is_graph_output()
    if new.type is None:
        new.type = old.type
    if new.shape is None:
        new.shape = old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if is_output:
        old.name, new.name = new.name, old.name


def _let_go(graph: ir.Graph) -> None:
    """Read nothing any more: what a branch that never runs reads may else not be removed."""
    graph.outputs.clear()
    for node in graph:
        for inner in subgraphs_of(node):
            _let_go(inner)
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
