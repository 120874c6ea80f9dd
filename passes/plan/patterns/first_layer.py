"""First layers: multiply-adds whose activation is an input of the model.

What the input's 8-bit grid loses, and what the few weights of such a layer lose, no later layer can
give back. It is small in most networks (Zhou et al. 2016 and many since leave it alone).
"""

from typing import Final

import onnx_ir as ir

from qcompile.core.units import COMPUTE_OPS
from qcompile.passes.plan.patterns.pattern import Pattern, computed, pattern

NAME: Final = "first layer"
REASON: Final = "first layer: what is lost of the input is lost for all that follows"
BETWEEN: Final = frozenset(
    {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Pad", "Slice", "Clip"}
    | {"Mul", "Add", "Sub", "Div"}
)
"""What may stand between: moving, and arithmetic with constants, which scales the input."""


def find(graph: ir.Graph) -> list[Pattern]:
    """One pattern a layer: a multiply-add that reads a float input, perhaps moved or scaled."""
    inputs = {v for v in graph.inputs if v.dtype is not None and v.dtype.is_floating_point()}
    found = []
    for node in graph:
        if node.op_type in COMPUTE_OPS and any(_is_input(v, inputs) for v in computed(node)):
            found.append(pattern(NAME, REASON, [node], [node]))
    return found


def _is_input(value: ir.Value, inputs: set[ir.Value]) -> bool:
    while value not in inputs:
        node = value.producer()
        if node is None or node.op_type not in BETWEEN or len(computed(node)) != 1:
            return False
        (value,) = computed(node)
    return True
