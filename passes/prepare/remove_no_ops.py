"""Nodes that hand on what they get, removed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import (
    attribute_int,
    attribute_ints,
    attribute_str,
    constant,
    rank,
    scalar,
)
from qcompile.passes.prepare.edit import bypass, has_input, is_op, operand, prune, replace, walk

NAME = "RemoveNoOps"


@dataclass(frozen=True)
class RemoveNoOps(ir.passes.InPlacePass):
    """Remove nodes that compute the identity. Keeps the float function.

    1. Identity; Dropout in inference form; Cast to the type it gets; Concat of one input.
    2. Reshape, Expand or Flatten to the shape it gets, where that can be told.
    3. Pad by nothing; Max/AveragePool of one element; global pool of a 1x1 map.
    4. ``x + 0``, ``x - 0``, ``x * 1``, ``x / 1``, where the constant does not widen the shape.
    5. A Reshape of a Reshape, Flatten, Squeeze or Unsqueeze reads what that one reads, if its
       target is constant and copies no dimension (has no 0).

    Left alone: a node between a graph input or initializer and a graph output, or between two
    graph outputs (the names of both are the model's contract); nodes in subgraphs. (The pass of
    onnx-ir for Identity fails where a subgraph hands an outer value on.)
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if is_op(node, "Reshape") and _skip_reshape(node):
        return True
    question = QUESTIONS.get(node.op_type) if node.domain == "" else None
    if question is None or not node.inputs or node.inputs[0] is None:
        return False
    if any(o.uses() or o.is_graph_output() for o in node.outputs[1:]):
        return False
    passed = question(node)
    if passed is None:
        return False
    fed = tuple(v for v in node.inputs if v is not passed)
    if not bypass(node, passed):
        return False
    prune(fed)
    return True


def _first_if(condition: Callable[[ir.Node], bool]) -> Callable[[ir.Node], ir.Value | None]:
    return lambda node: operand(node, 0) if condition(node) else None


def _dropout_is_off(node: ir.Node) -> bool:
    return not has_input(node, 2) or scalar(node.inputs[2]) == 0


def _cast_is_same(node: ir.Node) -> bool:
    dtype = operand(node, 0).dtype
    return dtype is not None and int(dtype) == attribute_int(node, "to", 0)


def _reshape_is_same(node: ir.Node) -> bool:
    """Whether at most one entry of the target is not plainly the input's own dimension."""
    shape, target = operand(node, 0).shape, constant(node.inputs[1])
    if shape is None or target is None or len(shape) != target.size:
        return False
    copies_zero = not attribute_int(node, "allowzero", 0)
    inferred = 0
    for dim, wanted in zip(shape, map(int, target.reshape(-1)), strict=True):
        if wanted == -1:
            inferred += 1
        elif not (dim == wanted or (wanted == 0 and copies_zero)):
            return False
    return inferred <= 1


def _expand_is_same(node: ir.Node) -> bool:
    shape, target = operand(node, 0).shape, constant(node.inputs[1])
    return shape is not None and target is not None and _within(tuple(target), shape)


def _within(added: tuple[int, ...], shape: ir.Shape) -> bool:
    """Whether broadcasting with ``added`` leaves ``shape`` as it is."""
    if len(added) > len(shape):
        return False
    own = list(shape)[len(shape) - len(added) :]
    return all(a == 1 or a == d for a, d in zip(added, own, strict=True))


def _pad_is_empty(node: ir.Node) -> bool:
    pads = constant(node.inputs[1])
    return pads is not None and not np.any(pads)


def _flatten_is_same(node: ir.Node) -> bool:
    return rank(node.inputs[0]) == 2 and attribute_int(node, "axis", 1) in (1, -1)


def _pool_is_single(node: ir.Node) -> bool:
    ones = (attribute_ints(node, "kernel_shape"), attribute_ints(node, "strides"))
    return (
        all(n == 1 for values in ones for n in values)
        and not any(attribute_ints(node, "pads"))
        and attribute_str(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    )


def _map_is_single(node: ir.Node) -> bool:
    shape = operand(node, 0).shape
    return shape is not None and all(d == 1 for d in list(shape)[2:])


def _neutral(number: float, either_side: bool) -> Callable[[ir.Node], ir.Value | None]:
    """A question: is one operand a constant full of ``number``? Then the other is passed on."""

    def question(node: ir.Node) -> ir.Value | None:
        for data, other in ((0, 1), (1, 0)) if either_side else ((0, 1),):
            value, array = operand(node, data), constant(node.inputs[other])
            if array is None or value.shape is None or not np.all(array == number):
                continue
            if _within(array.shape, value.shape):
                return value
        return None

    return question


QUESTIONS: Mapping[str, Callable[[ir.Node], ir.Value | None]] = {
    "Add": _neutral(0.0, either_side=True),
    "AveragePool": _first_if(_pool_is_single),
    "Cast": _first_if(_cast_is_same),
    "Concat": _first_if(lambda node: len(node.inputs) == 1),
    "Div": _neutral(1.0, either_side=False),
    "Dropout": _first_if(_dropout_is_off),
    "Expand": _first_if(_expand_is_same),
    "Flatten": _first_if(_flatten_is_same),
    "GlobalAveragePool": _first_if(_map_is_single),
    "GlobalMaxPool": _first_if(_map_is_single),
    "Identity": _first_if(lambda node: True),
    "MaxPool": _first_if(_pool_is_single),
    "Mul": _neutral(1.0, either_side=True),
    "Pad": _first_if(_pad_is_empty),
    "Reshape": _first_if(_reshape_is_same),
    "Sub": _neutral(0.0, either_side=False),
}
"""Operator -> the input it hands on unchanged, or None."""


def _skip_reshape(node: ir.Node) -> bool:
    data = operand(node, 0)
    inner = data.producer()
    target = constant(node.inputs[1])
    if target is None or not np.all(target):
        return False
    if inner is None or not is_op(inner, "Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return False
    replace(node, "Reshape", [inner.inputs[0], node.inputs[1]], NAME)
    return True
