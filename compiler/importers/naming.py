"""Gives every node and value of a model one unique name, the user's own wherever that is unique."""

from collections import Counter

import onnx_ir as ir

from qcompile.compiler.importers.tensors import graphs_of
from qcompile.core.graph import SOURCE_KEY


class Names:
    """Hands out names; ``wanted``, ``wanted_1``, ``wanted_2``... in order of asking."""

    def __init__(self, reserved: set[str]) -> None:
        self._taken = set(reserved)
        self._next: Counter[str] = Counter()

    def fresh(self, wanted: str) -> str:
        """A name nobody has."""
        name = wanted
        while name in self._taken:
            self._next[wanted] += 1
            name = f"{wanted}_{self._next[wanted]}"
        self._taken.add(name)
        return name


def record_sources(model: ir.Model) -> None:
    """Write down each node's own name in its metadata, before anything is renamed.

    A node without a name is remembered as the operator and its first output, which is how viewers
    show it. Function bodies are left out: inlined later, their nodes inherit the call's name.
    """
    for graph in graphs_of(model, functions=False):
        for node in graph:
            output = next((o.name for o in node.outputs if o.name), "")
            source = node.name or f"{node.op_type}({output})"
            node.metadata_props[SOURCE_KEY] = source.replace("\n", " ")


def make_names_unique(model: ir.Model) -> None:
    """Rename what has no name, or one that another node or value of the model has.

    Inputs and outputs of the model keep theirs whatever happens; then first come, first served,
    outer graphs before inner ones. Names may hold anything but a line break.
    """
    graphs = list(graphs_of(model))
    _name_values(model, graphs)
    _name_nodes(graphs)


def _name_values(model: ir.Model, graphs: list[ir.Graph]) -> None:
    ends = {*model.graph.inputs, *model.graph.outputs}
    values = _values_once(model, graphs)
    generated = Names({value.name for value in values if value.name})
    kept = {value.name for value in ends if value.name}
    for value in values:
        if value in ends and value.name:
            continue
        name = _one_line(value.name)
        if name and name == value.name and name not in kept:
            kept.add(name)
        else:
            node = value.producer()
            value.name = generated.fresh(name or (f"{node.op_type}_out" if node else "value"))


def _values_once(model: ir.Model, graphs: list[ir.Graph]) -> dict[ir.Value, None]:
    """Every value once: the model's ends, then graph by graph, in order."""
    values: dict[ir.Value, None] = dict.fromkeys((*model.graph.inputs, *model.graph.outputs))
    for graph in graphs:
        values.update(dict.fromkeys(graph.inputs))
        values.update(dict.fromkeys(graph.initializers.values()))
        for node in graph:
            values.update(dict.fromkeys(node.outputs))
        values.update(dict.fromkeys(graph.outputs))
    return values


def _name_nodes(graphs: list[ir.Graph]) -> None:
    nodes = [node for graph in graphs for node in graph]
    generated = Names({node.name for node in nodes if node.name})
    kept: set[str] = set()
    for node in nodes:
        name = _one_line(node.name)
        if name and name == node.name and name not in kept:
            kept.add(name)
        else:
            node.name = generated.fresh(name or node.op_type)


def _one_line(name: str | None) -> str:
    return (name or "").replace("\n", " ")
