"""Gives a clamp that its producer's operator cannot do a quantizer of its own."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.tflite.unit import bounds, unit_of


@dataclass
class SplitClamps(ir.passes.InPlacePass):
    """``op -> clamp -> Q`` becomes ``op -> Q -> DQ -> clamp -> Q`` with equal parameters.

    ``q(clip(x, a, b)) = clip(q(x), q(a), q(b))``, since a quantizer never falls: the integers are
    equal bit by bit. Left alone: a clamp that the operator of its producer does (``unit``), and
    one that reads a dequantized value, a graph input or a value that has another reader.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walk the nodes once."""
        modified = False
        fused: set[ir.Node] = set()
        for node in list(model.graph):
            if node in fused:
                continue
            fused.update(unit_of(node).followers)
            if bounds(node) is not None and _is_inside(node):
                _split(model.graph, node)
                modified = True
        return ir.passes.PassResult(model, modified)


def _is_inside(clamp: ir.Node) -> bool:
    """Whether a clamp stands between an op and the quantizer of its result."""
    source = clamp.inputs[0]
    reader = g.only_consumer(clamp.outputs[0])
    if source is None or reader is None or reader.op_type != "QuantizeLinear":
        return False
    producer = source.producer()
    if producer is None or producer.op_type == "DequantizeLinear":
        return False
    return g.only_consumer(source) is clamp


def _split(graph: ir.Graph, clamp: ir.Node) -> None:
    quantizer = g.only_consumer(clamp.outputs[0])
    source = clamp.inputs[0]
    assert quantizer is not None and source is not None
    made = ir.node("QuantizeLinear", [source, *quantizer.inputs[1:]], quantizer.attributes)
    integers = made.outputs[0]
    integers.name = g.unique_name(graph, f"{source.name}_quantized")
    integers.shape, integers.type = source.shape, quantizer.outputs[0].type
    back = ir.node("DequantizeLinear", [integers, *quantizer.inputs[1:]], quantizer.attributes)
    real = back.outputs[0]
    real.name = g.unique_name(graph, f"{source.name}_dequantized")
    real.shape, real.type = source.shape, source.type
    made.name, back.name = integers.name, real.name
    for node in (made, back):
        g.inherit(node, "SplitClamps", clamp)
    graph.insert_before(clamp, [made, back])
    clamp.replace_input_with(0, real)
