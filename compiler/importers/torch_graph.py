"""Gives what torch's exporter wrote the user's names, and takes out what it says about paths."""

import ast
from collections.abc import Sequence
from typing import Final

import onnx_ir as ir

from qcompile.compiler.importers.naming import Names
from qcompile.core.errors import Code, QCompileError

_SCOPES: Final = "pkg.torch.onnx.name_scopes"
_OTHERS: Final = ("pkg.", "namespace")
_BATCH: Final = "batch"


def finish_graph(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str] | None) -> None:
    """Name nodes after the modules they stand in, inputs and outputs as the user wants them.

    The exporter's own metadata hold its stack traces, with the user's folders.

    Args:
        model: changed in place.
        inputs: names of the inputs, in order; empty to keep them.
        outputs: names of the outputs, in order; None to keep them.

    Raises:
        QCompileError: IMPORT_FAILED when there are not as many names as inputs, or one is twice.
    """
    graph = model.graph
    if inputs and (len(inputs) != len(graph.inputs) or len(set(inputs)) != len(inputs)):
        raise QCompileError(
            Code.IMPORT_FAILED,
            f"{len(inputs)} names were given for {len(graph.inputs)} inputs: "
            f"{', '.join(inputs)} for {', '.join(value.name or '' for value in graph.inputs)}",
        )
    _name_ends(graph, inputs or (), outputs or ())
    _name_batch(graph)
    for one in (graph, *(f.graph for f in model.functions.values())):
        names = Names(set())
        for node in one.all_nodes():
            node.name = names.fresh(_node_name(node))
            _strip(node)
            for value in node.outputs:
                _strip(value)
        for value in (*one.inputs, *one.initializers.values()):
            _strip(value)
    _strip(model)
    _strip(graph)


def _name_ends(graph: ir.Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    wanted = list(zip(graph.inputs, inputs, strict=False))
    if len(set(graph.outputs)) == len(graph.outputs) == len(outputs):
        wanted += [
            (value, name)
            for value, name in zip(graph.outputs, outputs, strict=True)
            if not value.is_graph_input()
        ]
    names = {name for _, name in wanted}
    renamed = {value for value, _ in wanted}
    for value in _values(graph):
        if value.name in names and value not in renamed:
            value.name = f"{value.name}_inner"
    for value, name in wanted:
        value.name = name


def _name_batch(graph: ir.Graph) -> None:
    """An open dimension, to torch s77, that is the first of every input is the batch."""
    firsts = [v.shape[0] for v in graph.inputs if v.shape is not None and v.shape.rank() > 0]
    symbols = {d.value for d in firsts if isinstance(d, ir.SymbolicDim) and d.value is not None}
    if len(symbols) != 1:
        return
    (symbol,) = symbols
    for value in _values(graph):
        if value.shape is None:
            continue
        dims = [
            _BATCH if isinstance(d, ir.SymbolicDim) and d.value == symbol else d
            for d in value.shape
        ]
        value.shape = ir.Shape(dims)


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [
        *graph.inputs,
        *graph.initializers.values(),
        *(value for node in graph for value in node.outputs),
    ]


def _node_name(node: ir.Node) -> str:
    """``layer1.0.conv1/conv2d``: the module as the user calls it, and the function in it."""
    try:
        parts = [str(part) for part in ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))]
    except (ValueError, SyntaxError):
        parts = []
    if not parts:
        return node.name or node.op_type
    scope = next((p for p in reversed(parts[:-1]) if p and not p.startswith("_")), "")
    return f"{scope}/{parts[-1]}" if scope else parts[-1]


def _strip(thing: ir.Node | ir.Value | ir.Graph | ir.Model) -> None:
    for key in [key for key in thing.metadata_props if key.startswith(_OTHERS)]:
        del thing.metadata_props[key]
