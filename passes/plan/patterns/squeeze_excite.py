"""Squeeze-and-excite: a few numbers a picture, worked out of its means, scale whole channels.

An error of a gate is an error of a whole channel in every pixel (Hu et al. 2018 have the block;
MobileNetV3 and EfficientNet have one in every other layer). The means of all channels share one
8-bit scale though some channels are far larger than others, and so do the gates' logits; the
arithmetic in between is next to nothing, so that floats cost little there.
"""

from typing import Final

import onnx_ir as ir

from qcompile.core.units import COMPUTE_OPS
from qcompile.passes.plan.patterns.pattern import Pattern, computed, in_order, pattern

NAME: Final = "squeeze-and-excite"
REASON: Final = (
    "squeeze-and-excite: an error of a gate scales a whole channel, and all means share a scale"
)
POOLS: Final = frozenset({"GlobalAveragePool", "ReduceMean"})
GATES: Final = frozenset({"Sigmoid", "HardSigmoid", "Clip"})
BETWEEN: Final = COMPUTE_OPS | frozenset(
    {"Add", "Mul", "Relu", "Clip", "PRelu", "LeakyRelu", "HardSwish", "Sigmoid", "HardSigmoid"}
    | {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "BatchNormalization", "Div"}
)
MOVES: Final = frozenset({"Reshape", "Unsqueeze", "Transpose", "Expand"})
"""What may stand between the gate and its product."""


def find(graph: ir.Graph) -> list[Pattern]:
    """The blocks of a canonical graph.

    1. A Mul of two computed values, ``x`` and a gate: a Sigmoid, HardSigmoid or clamp.
    2. All that leads to the gate begins at means of ``x`` over the picture, has at least one
       multiply-add, and is otherwise activations, biases and moving.

    Eased are the nodes from the means to the gate. The product follows them where it must.
    """
    found = (_block(node, graph) for node in graph if node.op_type == "Mul")
    return [one for one in found if one is not None]


def _block(product: ir.Node, graph: ir.Graph) -> Pattern | None:
    operands = computed(product)
    if len(operands) != 2:
        return None
    for x, gate in (operands, operands[::-1]):
        inner = _between(x, gate)
        if inner is not None:
            nodes = in_order(graph, inner)
            return pattern(NAME, REASON, [*nodes, product], nodes)
    return None


def _between(x: ir.Value, gate: ir.Value) -> set[ir.Node] | None:
    """The nodes from the means of ``x`` to the gate; None where there is anything else."""
    last = gate.producer()
    moves = []
    while last is not None and last.op_type in MOVES:
        moves.append(last)
        last = last.inputs[0].producer() if last.inputs[0] is not None else None
    if last is None or last.op_type not in GATES:
        return None
    found: set[ir.Node] = set(moves)
    waiting, pools = [last], 0
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        found.add(node)
        if node.op_type in POOLS:
            if node.inputs[0] is not x:
                return None
            pools += 1
            continue
        producers = [value.producer() for value in computed(node)]
        if node.op_type not in BETWEEN or not producers:
            return None
        for producer in producers:
            if producer is None:
                return None  # an input of the graph
            waiting.append(producer)
    has_layer = any(node.op_type in COMPUTE_OPS for node in found)
    return found if pools and has_layer else None
