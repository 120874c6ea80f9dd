"""Sub and Div by a constant written as Add and Mul, constants second."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import constant, make_initializer
from qcompile.passes.prepare.edit import graph_of, is_op, operand, replace, walk

NAME = "SubToAdd"


@dataclass(frozen=True)
class SubToAdd(ir.passes.InPlacePass):
    """Write arithmetic with a constant as Add and Mul, for which there are integer kernels.

    Keeps the float function to the last bit.

    1. ``x - c`` becomes ``x + (-c)``.
    2. ``x / c`` becomes ``x * (1 / c)`` where every element of c is a power of two, it and its
       inverse normal numbers: then both are exact. Otherwise it is left alone.
    3. ``c + x`` and ``c * x`` become ``x + c`` and ``x * c``.

    Left alone: integer types, two constants, ``c - x`` and ``c / x``.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if is_op(node, "Add", "Mul"):
        return _swap(node)
    if not is_op(node, "Sub", "Div"):
        return False
    data, other = operand(node, 0), operand(node, 1)
    array = constant(other)
    if array is None or constant(data) is not None or not np.issubdtype(array.dtype, np.floating):
        return False
    if is_op(node, "Sub"):
        op_type, array, what = "Add", -array, "negated"
    elif _has_exact_inverse(array):
        op_type, array, what = "Mul", np.reciprocal(array), "inverse"
    else:
        return False
    value = make_initializer(graph_of(node), f"{other.name}.{what}", array)
    replace(node, op_type, [data, value], NAME)
    return True


def _swap(node: ir.Node) -> bool:
    first, second = operand(node, 0), operand(node, 1)
    if constant(first) is None or constant(second) is not None:
        return False
    node.replace_input_with(0, second)
    node.replace_input_with(1, first)
    return True


def _has_exact_inverse(array: np.ndarray) -> bool:
    """Whether x / c = x * (1 / c) exactly: |c| a power of two, c and 1 / c normal."""
    mantissa, exponent = np.frexp(array)  # array = mantissa * 2^exponent, 0.5 <= |mantissa| < 1
    limits = np.finfo(array.dtype)
    normal = (exponent > limits.minexp) & (exponent <= 1 - limits.minexp)
    return bool(np.all((np.abs(mantissa) == 0.5) & normal))
