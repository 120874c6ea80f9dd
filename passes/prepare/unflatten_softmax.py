"""Softmax over the last axis freed of the Flatten and Reshape that converters put around it."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core.graph import attribute_int, only_consumer, rank, static_shape
from qcompile.passes.prepare.edit import is_op, operand, replace, walk

NAME = "UnflattenSoftmax"


@dataclass(frozen=True)
class UnflattenSoftmax(ir.passes.InPlacePass):
    """Take Softmax out of a pair of reshapes. Keeps the float function.

    1. ``Reshape(Softmax(Flatten(x) or Reshape(x)), shape of x)``, the Softmax over the last axis
       and the last dimension of x a number that the first reshape keeps: becomes
       ``Softmax(x, axis=-1)``. (Converting Softmax from opset 12 and below makes these.)

    Left alone: a softmax over several axes of x at once, intermediate values read elsewhere,
    shapes that are not known.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if not is_op(node, "Reshape"):
        return False
    softmax = operand(node, 0).producer()
    if softmax is None or not is_op(softmax, "Softmax", "LogSoftmax"):
        return False
    flat = operand(softmax, 0)
    if only_consumer(softmax.outputs[0]) is not node or only_consumer(flat) is not softmax:
        return False
    flatten = flat.producer()
    if flatten is None or not is_op(flatten, "Flatten", "Reshape"):
        return False
    dims, x = rank(flat), operand(flatten, 0)
    if dims is None or attribute_int(softmax, "axis", -1) not in (-1, dims - 1):
        return False
    if not (_same_last(x, flat) and _restores(node, x)):
        return False
    replace(node, softmax.op_type, [x], NAME, attributes={"axis": -1})
    return True


def _same_last(x: ir.Value, flat: ir.Value) -> bool:
    """Whether both have the same, known last dimension."""
    if not x.shape or not flat.shape:
        return False
    last = x.shape[-1]
    return isinstance(last, int) and last == flat.shape[-1]


def _restores(node: ir.Node, x: ir.Value) -> bool:
    """Whether the reshape makes the shape of x again."""
    target = operand(node, 1).producer()
    if target is not None and is_op(target, "Shape") and not target.attributes:
        shaped = operand(target, 0)
        return shaped is x
    shape = static_shape(x)
    return shape is not None and shape == static_shape(node.outputs[0])
