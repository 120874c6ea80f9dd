"""Attention: the scores of queries and keys, scaled and masked, and the Softmax over them.

A mask adds -10000 or the lowest float to the scores that are not to count. On one 8-bit scale with
that, every other score is the same number, and attention becomes a mean. Without a mask the few
large scores decide, and their distances are what 8 bits take away; and a row of hundreds of
probabilities has most of them under 1/256. In floats the chain costs two passes over the scores.
"""

from typing import Final

import onnx_ir as ir

from qcompile.passes.plan.patterns.pattern import Pattern, computed, in_order, pattern

NAME: Final = "attention softmax"
REASON: Final = (
    "attention softmax: scores share an 8-bit scale with what masks them, and small weights vanish"
)
BEFORE: Final = frozenset(
    {"Mul", "Div", "Add", "Sub", "Where", "Max", "Min", "Clip", "Cast", "Reshape", "Transpose"}
    | {"Squeeze", "Unsqueeze"}
)
AFTER: Final = frozenset({"Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Mul", "Where"})
LONGEST: Final = 8
"""Nodes between a MatMul and its Softmax, or behind."""


def find(graph: ir.Graph) -> list[Pattern]:
    """The attentions of a canonical graph.

    1. A Softmax whose input comes of a MatMul of two computed values, through at most ``LONGEST``
       nodes of scaling, masking and moving.
    2. Its output goes, perhaps moved or masked, into another such MatMul.

    Eased are the Softmax and what stands between it and the first MatMul, which both stay integer.
    """
    found = []
    for node in graph:
        if node.op_type != "Softmax" or node.inputs[0] is None:
            continue
        front, back = _front(node.inputs[0], LONGEST), _back(node, LONGEST)
        if front is not None and back is not None:
            whole = in_order(graph, [*front, node, *back])
            found.append(pattern(NAME, REASON, whole, in_order(graph, [*front[1:], node])))
    return found


def _front(value: ir.Value, left: int) -> list[ir.Node] | None:
    """The MatMul that a value comes of, and the nodes between; None where there is none."""
    node = value.producer()
    if node is None or left < 0:
        return None
    if _is_product(node):
        return [node]
    if node.op_type not in BEFORE:
        return None
    for operand in computed(node):
        found = _front(operand, left - 1)
        if found is not None:
            return [*found, node]
    return None


def _back(node: ir.Node, left: int) -> list[ir.Node] | None:
    """The nodes up to the MatMul that reads what a node makes; None where there is none."""
    for use in node.outputs[0].uses():
        reader = use.node
        if _is_product(reader):
            return [reader]
        if reader.op_type in AFTER and left > 0:
            found = _back(reader, left - 1)
            if found is not None:
                return [reader, *found]
    return None


def _is_product(node: ir.Node) -> bool:
    return node.op_type == "MatMul" and len(computed(node)) == 2
