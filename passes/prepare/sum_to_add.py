"""Sum written as Adds."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core.graph import static_shape
from qcompile.passes.prepare.edit import insert, is_op, operand, replace, walk

NAME = "SumToAdd"


@dataclass(frozen=True)
class SumToAdd(ir.passes.InPlacePass):
    """Write ``Sum(a, b, c)`` as ``(a + b) + c``: runtimes have integer kernels for Add alone.

    Keeps the float function to the last bit, since Sum adds in that order as well.

    1. Of one operand: Identity.
    2. Of two: Add.
    3. Of more, all of the result's shape: Adds, one behind another.

    Left alone: more than two operands that broadcast.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if not is_op(node, "Sum"):
        return False
    count, shape = len(node.inputs), static_shape(node.outputs[0])
    terms = [operand(node, i) for i in range(count)]
    if count == 1:
        replace(node, "Identity", terms, NAME)
        return True
    if count > 2 and (shape is None or any(static_shape(t) != shape for t in terms)):
        return False
    total, made = terms[0], node.outputs[0]
    for term in terms[1:-1]:
        total = insert(node, "Add", [total, term], f"{made.name}.partial", NAME, like=made)
    replace(node, "Add", [total, terms[-1]], NAME)
    return True
