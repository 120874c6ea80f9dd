"""Squares written as products."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core.graph import rank, scalar
from qcompile.passes.prepare.edit import is_float, is_op, operand, replace, walk

NAME = "SquareToMul"
LENGTHS = ("ReduceMean", "ReduceSum", "GlobalAveragePool", "Sqrt")


@dataclass(frozen=True)
class SquareToMul(ir.passes.InPlacePass):
    """Write ``x ^ 2`` as ``x * x``, for which there are integer kernels (there are none for Pow).

    Keeps the float function: runtimes compute this power as the product. Detectors square the sizes
    of their boxes so.

    Left alone: other exponents, one of a higher rank than x, integer types, and squares that become
    a length: that a mean, a sum or a root reads, be it behind an Add. The range of such squares (of
    a norm, of a spectrum) is too wide for 8 bits.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if not is_op(node, "Pow") or scalar(operand(node, 1)) != 2 or not is_float(operand(node, 0)):
        return False
    if (rank(operand(node, 1)) or 0) > (rank(operand(node, 0)) or 0):
        return False
    if _becomes_a_length(node.outputs[0]):
        return False
    replace(node, "Mul", [operand(node, 0)] * 2, NAME)
    return True


def _becomes_a_length(square: ir.Value) -> bool:
    readers = [use.node for use in square.uses()]
    sums = [reader.outputs[0] for reader in readers if is_op(reader, "Add")]
    behind = [use.node for value in sums for use in value.uses()]
    return any(is_op(reader, *LENGTHS) for reader in (*readers, *behind))
