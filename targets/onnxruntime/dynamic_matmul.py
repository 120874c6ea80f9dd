"""Writes a MatMul of dynamically quantized activations as the integer ops ONNX Runtime fuses."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g


@dataclass
class DynamicMatMul(ir.passes.InPlacePass):
    """``MatMul(DQ(DynamicQuantizeLinear(x)), DQ(W))`` becomes MatMulInteger and a rescale.

    The form is the one that ONNX Runtime fuses into DynamicQuantizeMatMul::

        q, s, z = DynamicQuantizeLinear(x)
        y = Cast(MatMulInteger(q, W, z, z_w)) * (s * s_w)

    A ``Gemm`` with alpha = beta = 1 and an untransposed A is treated alike, its weight transposed
    (once for all that read it) if it says so and its bias added behind. The sums are those of the
    QDQ form, exact in int32; the rescale may differ in the last bit of float32.

    Left as they are: a Gemm with other attributes; a weight that is computed, is not a matrix of
    8-bit integers, or has scales along K or in blocks.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walk the nodes once; DequantizeLinear nodes that lost their readers are removed."""
        modified = False
        transposed: dict[ir.Value, ir.Value] = {}
        for node in list(model.graph):
            if node.op_type in {"MatMul", "Gemm"}:
                parts = _match(node)
                if parts is not None:
                    _rewrite(model.graph, node, *parts, transposed)
                    modified = True
        return ir.passes.PassResult(model, modified)


def _match(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    left = node.inputs[0].producer() if node.inputs[0] is not None else None
    right = node.inputs[1].producer() if node.inputs[1] is not None else None
    if left is None or right is None:
        return None
    if left.op_type != "DequantizeLinear" or right.op_type != "DequantizeLinear":
        return None
    source = left.inputs[0].producer() if left.inputs[0] is not None else None
    if source is None or source.op_type != "DynamicQuantizeLinear":
        return None
    if tuple(left.inputs) != tuple(source.outputs):
        return None
    plain = (
        g.attribute_int(node, "transA", 0) == 0
        and g.attribute_float(node, "alpha", 1.0) == 1.0
        and g.attribute_float(node, "beta", 1.0) == 1.0
    )
    channels = 0 if g.attribute_int(node, "transB", 0) else 1
    return (left, right) if plain and _is_plain_weight(right, channels) else None


def _is_plain_weight(dequantizer: ir.Node, channels: int) -> bool:
    """Whether it gives a constant matrix of bytes whose scales, if many, lie along ``channels``."""
    weight, scale = (g.constant(value) for value in dequantizer.inputs[:2])
    if weight is None or weight.ndim != 2 or weight.dtype not in (np.int8, np.uint8):
        return False
    if scale is None or scale.ndim > 1:
        return False
    return scale.size == 1 or g.attribute_int(dequantizer, "axis", 1) % 2 == channels


def _rewrite(
    graph: ir.Graph,
    node: ir.Node,
    left: ir.Node,
    right: ir.Node,
    transposed: dict[ir.Value, ir.Value],
) -> None:
    quantized, scale, zero_point = left.inputs[0], left.inputs[1], left.inputs[2]
    weight, weight_scale = right.inputs[0], right.inputs[1]
    weight_zero = right.inputs[2] if len(right.inputs) > 2 else None
    assert weight is not None and weight.name is not None
    if g.attribute_int(node, "transB", 0):
        if weight not in transposed:
            transposed[weight] = _transposed(graph, weight)
        weight = transposed[weight]
    if weight_zero is not None and not np.any(g.constant(weight_zero)):
        weight_zero = None
    name = node.name or ""
    made = [
        ir.node(
            "MatMulInteger", [quantized, weight, zero_point, weight_zero], name=f"{name}_integer"
        ),
        ir.node("Mul", [scale, weight_scale], name=f"{name}_scale"),
    ]
    made.append(
        ir.node("Cast", [made[0].outputs[0]], {"to": ir.DataType.FLOAT.value}, name=f"{name}_cast")
    )
    made.append(ir.node("Mul", [made[2].outputs[0], made[1].outputs[0]], name=name))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        made.append(ir.node("Add", [made[-1].outputs[0], node.inputs[2]], name=f"{name}_bias"))
    for new in made:
        g.inherit(new, "DynamicMatMul", node)
        new.outputs[0].name = g.unique_name(graph, f"{new.name}_output")
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], made, node.outputs, made[-1].outputs
    )
    for dead in (left, right):
        if (
            dead.graph is not None
            and not dead.outputs[0].uses()
            and not dead.outputs[0].is_graph_output()
        ):
            graph.remove(dead, safe=True)


def _transposed(graph: ir.Graph, weight: ir.Value) -> ir.Value:
    array = g.constant(weight)
    assert array is not None
    return g.make_initializer(graph, f"{weight.name}_transposed", np.ascontiguousarray(array.T))
