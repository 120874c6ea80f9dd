"""Keeps a layer float that was left float: ONNX Runtime would quantize its weight on its own."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core import graph as g

_MS = "com.microsoft"
_GUARDED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_MOVES = frozenset(
    {"Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Ops past which ONNX Runtime moves a DequantizeLinear."""


@dataclass
class KeepFloat(ir.passes.InPlacePass):
    """Write a float multiply-add behind a DequantizeLinear so that it stays float.

    Between ``DequantizeLinear`` and ``QuantizeLinear``, ONNX Runtime (seen in 1.32) takes a layer
    with a float constant weight for one that somebody forgot: it quantizes the weight to 8 bits
    with one scale for the whole tensor, which costs 20 dB where channels differ much, and says
    nothing. It looks for the ops by name, and only ahead of its other rules. So:

    1. ``Conv`` becomes ``com.microsoft.FusedConv`` without an activation: the same kernel.
    2. Behind ``ConvTranspose``, ``Gemm`` and ``MatMul`` (with the ``Add`` that follows it, ONNX
       Runtime makes a Gemm of it) goes a ``Max`` of one operand, which is a copy.

    It keeps the function. Left alone: layers whose data do not come, directly or through ops that
    only move them, from a DequantizeLinear; weights that are computed or dequantized; subgraphs.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walk the nodes once."""
        found = forgotten(model.graph)
        for node in found:
            if node.op_type == "Conv":
                _fuse(model.graph, node)
            else:
                _copy_behind(model.graph, node)
        if any(node.op_type == "Conv" for node in found):
            model.opset_imports.setdefault(_MS, 1)
        return ir.passes.PassResult(model, bool(found))


def forgotten(graph: ir.Graph) -> list[ir.Node]:
    """The float layers of a QDQ graph that ONNX Runtime would quantize, in graph order."""
    return [
        node
        for node in graph
        if node.op_type in _GUARDED
        and node.domain in {"", "ai.onnx"}
        and _is_float_constant(node.inputs[1])
        and _is_dequantized(node.inputs[0])
        and not _is_guarded(node)
    ]


def _is_float_constant(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT and g.constant(value) is not None


def _is_dequantized(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    while node is not None and node.op_type in _MOVES and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type == "DequantizeLinear"


def _is_guarded(node: ir.Node) -> bool:
    reader = g.only_consumer(node.outputs[0])
    return reader is not None and reader.op_type == "Max" and len(reader.inputs) == 1


def _fuse(graph: ir.Graph, node: ir.Node) -> None:
    """Put a FusedConv in the place of a Conv."""
    output = node.outputs[0]
    new = ir.Node(
        _MS, "FusedConv", list(node.inputs), list(node.attributes.values()), num_outputs=1
    )
    _take_place(graph, node, new, output)
    new.name = node.name
    new.metadata_props.update(node.metadata_props)
    graph.remove(node, safe=True)


def _copy_behind(graph: ir.Graph, node: ir.Node) -> None:
    """Put a Max of one operand behind a node; its output takes over the name."""
    output = node.outputs[0]
    new = ir.Node("", "Max", [output], num_outputs=1)
    _take_place(graph, node, new, output)
    new.name = g.unique_node_name(graph, f"{node.name}_kept_float")
    new.replace_input_with(0, output)
    g.inherit(new, "KeepFloat", node)


def _take_place(graph: ir.Graph, node: ir.Node, new: ir.Node, old: ir.Value) -> None:
    """Insert ``new`` behind ``node`` and let its output stand for ``old``, under its name."""
    value = new.outputs[0]
    value.shape, value.type = old.shape, old.type
    graph.insert_after(node, new)
    old.replace_all_uses_with(value, replace_graph_outputs=True)
    name = old.name
    old.name = g.unique_name(graph, f"{name}_inner")
    value.name = name
