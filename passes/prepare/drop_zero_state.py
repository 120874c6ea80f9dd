"""States of recurrent layers that begin at zero need not be given."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import constant
from qcompile.passes.prepare.edit import has_input, is_constant, is_op, operand, prune, walk

NAME: Final = "DropZeroState"
_STATES: Final = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""Operator -> inputs that hold what a sequence begins with; zeros where they are not given."""
_MOVES: Final = (
    "Cast",
    "Expand",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
"""Operators whose output holds nothing but elements of their first input."""


@dataclass(frozen=True)
class DropZeroState(ir.passes.InPlacePass):
    """Take out an initial state of LSTM, GRU or RNN that is zero. Keeps the float function.

    What is not given is zero (the ONNX specifications). Exporters make zeros of the size of the
    batch: Shape -> Concat -> Expand -> Slice, none of which is needed. Zero is a constant of zeros,
    ConstantOfShape of 0, and what Expand, Slice, Reshape and the like make of either.

    Left alone: states that hold anything else or are computed, and where the operators in between
    are read by others, those.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if not is_op(node, *_STATES):
        return False
    given = [index for index in _STATES[node.op_type] if has_input(node, index)]
    zeros = [index for index in given if _is_zero(operand(node, index))]
    values = [operand(node, index) for index in zeros]
    for index in zeros:
        node.replace_input_with(index, None)
    prune(values)
    return bool(zeros)


def _is_zero(value: ir.Value) -> bool:
    seen: ir.Value | None = value
    while seen is not None and not is_constant(seen):
        producer = seen.producer()
        if is_op(producer, "ConstantOfShape"):
            assert producer is not None
            filled = producer.attributes.get("value")
            return filled is None or not np.any(filled.as_tensor().numpy())
        if producer is None or not is_op(producer, *_MOVES):
            return False
        seen = producer.inputs[0]
    array = constant(seen)
    return array is not None and not np.any(array)
