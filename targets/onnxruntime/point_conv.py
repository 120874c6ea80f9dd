"""Writes a Conv of one position that gives floats as the Gemm it is: that can be an integer one."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.units import is_point

NAME = "PointConv"


@dataclass
class PointConv(ir.passes.InPlacePass):
    """``Conv(DQ(x), DQ(w), b)`` of one tap on one position becomes a Gemm between two reshapes.

    For x of shape (N, C, 1...), w (M, C, 1...) and no quantizer behind the Conv::

        y = reshape(Gemm(DQ(flatten(x)), DQ(w^T), b), (N, M, 1...))

    ONNX Runtime's integer convolution gives nothing but integers; its integer Gemm gives floats as
    well, and then the last layer of a classifier adds no rounding of its own. The sums are those of
    the Conv.

    Left alone: a Conv that is quantized behind, one with groups, more than one tap or position, and
    weights that are computed, are no bytes or have scales along another axis.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walk the nodes once."""
        modified = False
        for node in list(model.graph):
            if node.op_type == "Conv" and is_point(node):
                parts = _match(node)
                if parts is not None:
                    _rewrite(model.graph, node, *parts)
                    modified = True
        return ir.passes.PassResult(model, modified)


def _match(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The dequantizers of data and weight, where the Conv's own output has no quantizer."""
    if any(use.node.op_type == "QuantizeLinear" for use in node.outputs[0].uses()):
        return None
    data, weight = (v.producer() if v is not None else None for v in node.inputs[:2])
    if data is None or weight is None:
        return None
    if data.op_type != "DequantizeLinear" or weight.op_type != "DequantizeLinear":
        return None
    stored, scale = (g.constant(value) for value in weight.inputs[:2])
    if stored is None or stored.dtype not in (np.int8, np.uint8):
        return None
    if scale is None or scale.ndim > 1:
        return None
    along_outputs = scale.ndim == 0 or g.attribute_int(weight, "axis", 1) == 0
    return (data, weight) if along_outputs else None


def _rewrite(graph: ir.Graph, node: ir.Node, data: ir.Node, weight: ir.Node) -> None:
    stored = g.constant(weight.inputs[0])
    source = data.inputs[0]
    assert stored is not None and source is not None
    matrix = np.ascontiguousarray(stored.reshape(stored.shape[:2]).T)
    name = node.name or ""
    turned = g.make_initializer(graph, f"{name}_weight_transposed", matrix)
    shape = np.array([-1, *stored.shape[:1], *stored.shape[2:]], np.int64)
    flat = ir.node("Flatten", [source], {"axis": 1})
    x = ir.node("DequantizeLinear", [flat.outputs[0], *data.inputs[1:]])
    w = ir.node("DequantizeLinear", [turned, *weight.inputs[1:]], {"axis": 1})
    product = ir.node("Gemm", [x.outputs[0], w.outputs[0], *node.inputs[2:]])
    back = ir.node(
        "Reshape", [product.outputs[0], g.make_initializer(graph, f"{name}_shape", shape)]
    )
    made = [flat, x, w, product, back]
    for new, what in zip(made, ("flat", "data", "weight", "gemm", ""), strict=True):
        new.name = g.unique_node_name(graph, f"{name}_{what}") if what else name
        new.outputs[0].name = g.unique_name(graph, f"{name}_{what or 'back'}_output")
        g.inherit(new, NAME, node)
    flat.outputs[0].type = source.type
    for new in (x, w, product):
        new.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    ir.convenience.replace_nodes_and_values(graph, node, [node], made, node.outputs, back.outputs)
    for dead in (data, weight):
        if not dead.outputs[0].uses() and not dead.outputs[0].is_graph_output():
            graph.remove(dead, safe=True)
