"""Sigmoid and SiLU recognized in their decomposed forms, and SiLU written one way."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core.graph import only_consumer
from qcompile.passes.prepare.edit import insert, is_op, operand, replace, walk
from qcompile.passes.prepare.match import close, made_by, sum_with_number

NAME = "RecognizeSilu"


@dataclass(frozen=True)
class RecognizeSilu(ir.passes.InPlacePass):
    """Write SiLU as ``Mul(x, Sigmoid(x))``. Keeps the float function.

    1. ``1 / (1 + Exp(-x))`` and ``Reciprocal(1 + Exp(-x))`` become Sigmoid(x).
    2. ``x / (1 + Exp(-x))`` becomes Mul(x, Sigmoid(x)).
    3. ``Mul(Sigmoid(x), x)`` becomes Mul(x, Sigmoid(x)): the gate is the second operand.

    The two ops stay apart: runtimes have integer kernels for both and none for SiLU. Left alone:
    forms of which a part is read elsewhere.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if is_op(node, "Mul"):
        return _order(node)
    if is_op(node, "Reciprocal"):
        x = _sigmoid_argument(operand(node, 0))
        if x is not None:
            replace(node, "Sigmoid", [x], NAME)
        return x is not None
    return is_op(node, "Div") and _divided(node)


def _order(node: ir.Node) -> bool:
    first, second = node.inputs
    producer = first.producer() if first is not None else None
    if producer is None or not is_op(producer, "Sigmoid") or producer.inputs[0] is not second:
        return False
    node.replace_input_with(0, second)
    node.replace_input_with(1, first)
    return True


def _divided(node: ir.Node) -> bool:
    x = _sigmoid_argument(operand(node, 1))
    if x is None:
        return False
    numerator = operand(node, 0)
    if numerator is x:
        gate = insert(node, "Sigmoid", [x], f"{node.outputs[0].name}.sigmoid", NAME, like=x)
        replace(node, "Mul", [x, gate], NAME)
        return True
    array = numerator.const_value
    if array is None or array.size != 1 or len(array.shape) > 0 or array.numpy() != 1:
        return False
    replace(node, "Sigmoid", [x], NAME)
    return True


def _sigmoid_argument(denominator: ir.Value) -> ir.Value | None:
    """The x of ``1 + Exp(-x)`` that one node reads."""
    found = sum_with_number(denominator)
    if found is None or not close(found[1], 1.0):
        return None
    exp = made_by(found[0], "Exp")
    if exp is None or only_consumer(operand(exp, 0)) is None:
        return None
    negated = made_by(operand(exp, 0), "Neg")
    return negated.inputs[0] if negated is not None else None
