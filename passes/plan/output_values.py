"""Values whose largest elements are the answer of the model, and must not be clipped."""

from typing import Final

import onnx_ir as ir

from qcompile.core import graph as g

_PRESENT: Final = frozenset(
    (
        *("Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh", "ArgMax", "TopK", "Cast"),
        *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Concat"),
        *("Split", "Slice", "Gather", "NonMaxSuppression"),
    )
)
"""Ops that present what was computed before them."""


def output_values(graph: ir.Graph) -> set[ir.Value]:
    """The graph's outputs, and what reaches them through ops that only present it.

    A range method that weighs errors alike over all elements clips the few large ones; in an
    output those are the logits of the classes and objects that the model is sure of, and clipping
    changes which one wins (Nagel et al. 2021, section 3.1, say so of the last layer's output).
    """
    waiting = list(graph.outputs)
    found = set(waiting)
    while waiting:
        node = waiting.pop().producer()
        if node is None or node.op_type not in _PRESENT:
            continue
        for value in node.inputs:
            if value is not None and value not in found and g.constant(value) is None:
                found.add(value)
                waiting.append(value)
    return found
