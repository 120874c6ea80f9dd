"""Products and sums read off a graph, however a converter nested and ordered them."""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import constant, only_consumer, rank, scalar
from qcompile.passes.prepare.edit import is_op, operand

TOLERANCE = 1e-5
"""Relative error up to which a literal counts as the number meant: exporters write 1.4142."""


@dataclass(frozen=True)
class Product:
    """A constant times values: ``constant * factors[0] * factors[1] * ...``."""

    constant: float
    factors: tuple[ir.Value, ...]

    def times(self, other: "Product") -> "Product":
        """The product of two products."""
        return Product(self.constant * other.constant, self.factors + other.factors)

    def other_than(self, factor: ir.Value) -> tuple[ir.Value, ...] | None:
        """The factors but one that is ``factor``; None when it is not among them."""
        for i, value in enumerate(self.factors):
            if value is factor:
                return self.factors[:i] + self.factors[i + 1 :]
        return None


def close(number: float, wanted: float) -> bool:
    """Whether a literal is the number wanted, as exporters round."""
    return math.isclose(number, wanted, rel_tol=TOLERANCE)


def made_by(value: ir.Value, *op_types: str) -> ir.Node | None:
    """The node that makes a value for a single reader, if it is one of these ops."""
    node = value.producer()
    return node if is_op(node, *op_types) and only_consumer(value) is not None else None


def product_of(value: ir.Value) -> Product:
    """The value as a product, following Mul, Div by a constant and small whole powers.

    Nodes whose results are read elsewhere too are factors, not looked into. ``value`` itself may
    be read by any number of nodes.
    """
    node = value.producer()
    found = None if node is None else _joined(node)
    return found or Product(1.0, (value,))


def _joined(node: ir.Node) -> Product | None:
    if is_op(node, "Mul"):
        left, right = (_part(node, v) for v in (operand(node, 0), operand(node, 1)))
        return left.times(right)
    if is_op(node, "Div"):
        divisor = _number(node, operand(node, 1))
        if divisor:
            return _part(node, operand(node, 0)).times(Product(1.0 / divisor, ()))
    if is_op(node, "Pow"):
        exponent = _number(node, operand(node, 1))
        if exponent in (2.0, 3.0):
            return Product(1.0, (operand(node, 0),) * int(exponent))
    return None


def _part(node: ir.Node, value: ir.Value) -> Product:
    number = _number(node, value)
    if number is not None:
        return Product(number, ())
    if only_consumer(value) is not node:
        return Product(1.0, (value,))
    return product_of(value)


def _number(node: ir.Node, value: ir.Value) -> float | None:
    """A scalar constant that does not raise the rank of the node's result."""
    array = constant(value)
    if array is None or array.size != 1 or not np.issubdtype(array.dtype, np.floating):
        return None
    if array.ndim and not all(
        (dims := rank(v)) is not None and array.ndim <= dims for v in node.inputs
    ):
        return None
    return scalar(value)


def sum_with_number(value: ir.Value) -> tuple[ir.Value, float] | None:
    """The (x, c) of ``x + c`` or ``x - c`` that one node reads, c a scalar constant."""
    node = made_by(value, "Add", "Sub")
    if node is None:
        return None
    for data, other in ((0, 1), (1, 0)) if is_op(node, "Add") else ((0, 1),):
        number = _number(node, operand(node, other))
        if number is not None:
            return operand(node, data), -number if is_op(node, "Sub") else number
    return None
