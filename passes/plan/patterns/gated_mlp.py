"""Gated MLPs of language models: the product of an activation and another layer's result.

``down(act(gate(x)) * up(x))``: of some channels the product reaches a thousand times as far as of
most others. Only the product can be smoothed, since it is what a layer reads: the activation and
the two results that go into it keep a scale a tensor each, and every one of them is rounded.
ONNX Runtime gives floats from a layer at no cost, so that floats between the layers cost a pass
over the product and save the passes of five quantizers.
"""

from typing import Final

import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.passes.plan.patterns.gated_activation import gate_of
from qcompile.passes.plan.patterns.pattern import Pattern, in_order, pattern
from qcompile.passes.prepare.edit import is_op

NAME: Final = "gated MLP"
REASON: Final = "gated MLP: its two sides and their product are rounded one after the other"

_ACTIVATIONS: Final = ("Gelu", "HardSwish", "Relu", "Swish", "Mish")
_LAYERS: Final = ("MatMul", "Gemm")


def find(graph: ir.Graph) -> list[Pattern]:
    """One pattern an MLP: what lies between its layers."""
    found = []
    for node in graph:
        between = _between(node)
        if between:
            nodes = in_order(graph, between)
            found.append(pattern(NAME, REASON, nodes, nodes))
    return found


def _between(product: ir.Node) -> list[ir.Node]:
    """The product and the activation of one of its sides; empty where it is no such product."""
    if not is_op(product, "Mul") or not _read_by_layers(product.outputs[0]):
        return []
    first, second = product.inputs
    for side, other in ((first, second), (second, first)):
        activation = _activation(side)
        if activation and _from_layer(other):
            return [*activation, product]
    return []


def _activation(value: ir.Value | None) -> list[ir.Node]:
    """The nodes of an activation of what a layer gives; empty where it is none."""
    node = value.producer() if value is not None else None
    if node is None:
        return []
    if is_op(node, *_ACTIVATIONS):
        return [node] if _from_layer(node.inputs[0]) else []
    gate = gate_of(node) if is_op(node, "Mul") else None
    return [gate, node] if gate is not None and _from_layer(gate.inputs[0]) else []


def _from_layer(value: ir.Value | None) -> bool:
    """Whether a MatMul or Gemm with a constant weight makes a value, its bias added or not."""
    node = value.producer() if value is not None else None
    if node is not None and is_op(node, "Add"):
        computed = [v for v in node.inputs if v is not None and g.constant(v) is None]
        node = computed[0].producer() if len(computed) == 1 else None
    return node is not None and is_op(node, *_LAYERS) and g.constant(node.inputs[1]) is not None


def _read_by_layers(value: ir.Value) -> bool:
    """Whether MatMuls and Gemms with constant weights alone read a value."""
    uses = list(value.uses())
    layers = all(
        use.idx == 0 and is_op(use.node, *_LAYERS) and g.constant(use.node.inputs[1]) is not None
        for use in uses
    )
    return bool(uses) and layers and not value.is_graph_output()
