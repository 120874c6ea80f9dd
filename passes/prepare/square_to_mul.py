"""Squares written as products."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core.graph import rank, scalar
from qcompile.passes.prepare.edit import is_float, is_op, operand, replace, walk

NAME = "SquareToMul"
AVERAGES = ("ReduceMean", "ReduceSum", "ReduceSumSquare", "GlobalAveragePool")


@dataclass(frozen=True)
class SquareToMul(ir.passes.InPlacePass):
    """Write ``x ^ 2`` as ``x * x``, for which there are integer kernels (there are none for Pow).

    Keeps the float function: runtimes compute this power as the product. Detectors square the sizes
    of their boxes so.

    Left alone: other exponents, one of a higher rank than x, integer types, and squares that a mean
    or a sum reads: those are the variance of a norm, whose range is too wide for 8 bits.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if not is_op(node, "Pow") or scalar(operand(node, 1)) != 2 or not is_float(operand(node, 0)):
        return False
    if (rank(operand(node, 1)) or 0) > (rank(operand(node, 0)) or 0):
        return False
    if any(is_op(use.node, *AVERAGES) for use in node.outputs[0].uses()):
        return False
    replace(node, "Mul", [operand(node, 0)] * 2, NAME)
    return True
