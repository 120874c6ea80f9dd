"""GELU recognized in its decomposed forms."""

import math
from dataclasses import dataclass

import onnx_ir as ir

from qcompile.passes.prepare.edit import is_op, is_single, operand, replace, walk
from qcompile.passes.prepare.match import Product, close, made_by, product_of, sum_with_number

NAME = "RecognizeGelu"


@dataclass(frozen=True)
class RecognizeGelu(ir.passes.InPlacePass):
    """Rewrite decomposed GELU as the standard op Gelu (opset 20). Keeps the float function.

    1. ``0.5 * x * (1 + Erf(x / sqrt(2)))`` becomes Gelu(x).
    2. ``0.5 * x * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))``, also with the bracket written
       ``x * (1 + 0.044715 * x^2)``, becomes Gelu(x, approximate="tanh").

    Factors may stand in any order, be divided instead of multiplied, and powers may be Pow or
    repeated factors. Left alone: forms of which a part is read elsewhere, and x * Sigmoid(1.702 x),
    which is another function; and double, for which runtimes have no Gelu.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if not is_op(node, "Mul", "Div") or not is_single(node.outputs[0]):
        return False
    product = product_of(node.outputs[0])
    if len(product.factors) != 2 or not close(product.constant, 0.5):
        return False
    for x, gate in (product.factors, product.factors[::-1]):
        approximate = _gate(gate, x)
        if approximate is not None:
            attributes = {} if approximate == "none" else {"approximate": approximate}
            replace(node, "Gelu", [x], NAME, attributes=attributes)
            return True
    return False


def _gate(gate: ir.Value, x: ir.Value) -> str | None:
    """Which form of Gelu multiplies x with this gate."""
    found = sum_with_number(gate)
    if found is None or not close(found[1], 1.0):
        return None
    function = made_by(found[0], "Erf", "Tanh")
    if function is None:
        return None
    inner = operand(function, 0)
    if len(inner.uses()) != 1:
        return None
    argument = product_of(inner)
    if function.op_type == "Erf":
        matches = argument.factors == (x,) and close(argument.constant, math.sqrt(0.5))
        return "none" if matches else None
    return "tanh" if _is_tanh_argument(argument, x) else None


def _is_tanh_argument(argument: Product, x: ir.Value) -> bool:
    """Whether the product is sqrt(2 / pi) * (x + 0.044715 x^3)."""
    if not close(argument.constant, math.sqrt(2 / math.pi)):
        return False
    if len(argument.factors) == 1:
        return _is_x_plus_cube(argument.factors[0], x)
    rest = argument.other_than(x)
    if rest is None or len(rest) != 1:
        return False
    found = sum_with_number(rest[0])
    return found is not None and close(found[1], 1.0) and _is_power(found[0], x, 2)


def _is_x_plus_cube(value: ir.Value, x: ir.Value) -> bool:
    node = made_by(value, "Add")
    if node is None:
        return False
    a, b = operand(node, 0), operand(node, 1)
    return (a is x and _is_power(b, x, 3)) or (b is x and _is_power(a, x, 3))


def _is_power(value: ir.Value, x: ir.Value, exponent: int) -> bool:
    """Whether a value is 0.044715 * x^exponent."""
    if len(value.uses()) != 1:
        return False
    product = product_of(value)
    factors = [f for v in product.factors for f in product_of_power(v, x)]
    return close(product.constant, 0.044715) and factors == [x] * exponent


def product_of_power(value: ir.Value, x: ir.Value) -> tuple[ir.Value, ...]:
    """The value's factors if it is a power of x, else the value itself."""
    return product_of(value).factors if value is not x else (x,)
