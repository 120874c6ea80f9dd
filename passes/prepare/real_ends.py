"""Integer ends of a model that is quantized already become the real numbers they stand for."""

from collections.abc import Hashable
from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core.graph import constant, inherit, unique_name
from qcompile.passes.prepare.edit import has_input, is_op, operand

NAME = "RealEnds"

_INTEGERS = frozenset({ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.INT16})


@dataclass(frozen=True)
class RealEnds(ir.passes.InPlacePass):
    """Exchange real numbers at the ends of a graph. Keeps the function between integers.

    1. An input of 8 or 16 bits that only DequantizeLinear read, all of one scale and zero point
       that are constants of one number, becomes a float input of the same name; a QuantizeLinear
       of that scale stands behind it.
    2. An output that a QuantizeLinear of such parameters makes becomes its DequantizeLinear, a
       float output of the same name.

    What the end stands for is ``(q - zero_point) * scale``, before as after; so ``RealEnds`` of a
    model, fed with what integers stand for, gives what its integers stand for.
    Left alone: ends that something else reads or makes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        graph = model.graph
        modified = False
        for value in graph.inputs:
            modified |= _open_input(graph, value)
        for index, value in enumerate(graph.outputs):
            modified |= _open_output(graph, index, value)
        return ir.passes.PassResult(model, modified)


def _open_input(graph: ir.Graph, value: ir.Value) -> bool:
    if value.dtype not in _INTEGERS or value.is_graph_output():
        return False
    uses = list(value.uses())
    readers = [use.node for use in uses]
    keys = {_parameters(node) for node in readers}
    if len(keys) != 1 or None in keys or not all(is_op(n, "DequantizeLinear") for n in readers):
        return False
    first = readers[0]
    stored = ir.Value(
        name=unique_name(graph, f"{value.name}_quantized"), shape=value.shape, type=value.type
    )
    node = ir.node("QuantizeLinear", [value, *first.inputs[1:]], outputs=[stored], name=stored.name)
    inherit(node, NAME, first)
    graph.insert_before(min(readers, key=list(graph).index), node)
    for reader, index in uses:
        reader.replace_input_with(index, stored)
    value.type = ir.TensorType(ir.DataType.FLOAT)
    return True


def _open_output(graph: ir.Graph, index: int, value: ir.Value) -> bool:
    node = value.producer()
    if node is None or not is_op(node, "QuantizeLinear") or value.dtype not in _INTEGERS:
        return False
    if _parameters(node) is None or node.graph is not graph:
        return False
    name = value.name or ""
    real = ir.Value(name=name, shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
    value.name = unique_name(graph, f"{name}_quantized")
    made = ir.node("DequantizeLinear", [value, *node.inputs[1:]], outputs=[real])
    made.name = f"{name}_dequantized"
    inherit(made, NAME, node)
    graph.insert_after(node, made)
    graph.outputs[index] = real
    return True


def _parameters(node: ir.Node) -> Hashable:
    """Scale and zero point of a (de)quantizer by their bytes; None where they are not constant."""
    scale = constant(operand(node, 1))
    zero = constant(node.inputs[2]) if has_input(node, 2) else None
    if scale is None or scale.size != 1 or (has_input(node, 2) and zero is None):
        return None
    return (scale.tobytes(), 0 if zero is None else int(zero.reshape(-1)[0]))
