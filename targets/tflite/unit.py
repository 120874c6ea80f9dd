"""Which followers an operator does as well: a bias behind a MatMul, a clamp behind arithmetic."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g

NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)
"""The schema's ActivationFunctionType."""

CLAMPS: Final[dict[tuple[float, float], int]] = {
    (0.0, np.inf): RELU,
    (-1.0, 1.0): RELU_N1_TO_1,
    (0.0, 6.0): RELU6,
}
"""Bounds -> the activation that an operator can be told to do."""

_FUSE_CLAMP: Final = frozenset({"Conv", "Gemm", "MatMul", "Add", "Sub", "Mul"})


@dataclass(frozen=True)
class Unit:
    """A node and the followers that its operator does as well, in graph order."""

    node: ir.Node
    followers: tuple[ir.Node, ...] = ()
    bias: ir.Value | None = None
    """What an absorbed Add adds to each output channel."""
    activation: int = NONE

    @property
    def end(self) -> ir.Node:
        """The node whose first output the operator writes."""
        return self.followers[-1] if self.followers else self.node

    @property
    def inputs(self) -> tuple[ir.Value | None, ...]:
        """All that the operator reads."""
        return (*self.node.inputs, *(() if self.bias is None else (self.bias,)))


def unit_of(node: ir.Node) -> Unit:
    """The unit that starts at ``node``."""
    if node.op_type not in _FUSE_CLAMP:
        return Unit(node)
    followers: list[ir.Node] = []
    bias = None
    last = node
    if node.op_type == "MatMul":
        found = g.only_consumer(node.outputs[0])
        bias = None if found is None else _bias(node, found)
        if found is not None and bias is not None:
            followers.append(found)
            last = found
        elif not _is_matrix(node.inputs[1]):
            return Unit(node)  # BATCH_MATMUL has no activation
    clamp = g.only_consumer(last.outputs[0])
    activation = NONE if clamp is None else CLAMPS.get(bounds(clamp) or (np.nan, np.nan), NONE)
    if clamp is not None and activation != NONE:
        followers.append(clamp)
    return Unit(node, tuple(followers), bias, activation)


def bounds(node: ir.Node) -> tuple[float, float] | None:
    """Lower and upper bound of a Relu or Clip; None for other nodes and computed bounds."""
    if node.op_type == "Relu":
        return (0.0, np.inf)
    if node.op_type != "Clip":
        return None
    found = []
    for index, default in ((1, -np.inf), (2, np.inf)):
        value = node.inputs[index] if len(node.inputs) > index else None
        bound = default if value is None else g.scalar(value)
        if bound is None:
            return None
        found.append(float(bound))
    return found[0], found[1]


def stored(value: ir.Value | None) -> ir.Value | None:
    """What is behind a DequantizeLinear, or a Cast that widens a constant; or the value itself."""
    producer = None if value is None else value.producer()
    if producer is not None and (producer.op_type == "DequantizeLinear" or widens(producer)):
        return producer.inputs[0]
    return value


def widens(node: ir.Node) -> bool:
    """Whether a node makes float32 of a float16 constant: the form of weights stored small."""
    source, made = node.inputs[0] if node.inputs else None, node.outputs[0]
    return (
        node.op_type == "Cast"
        and source is not None
        and source.dtype == ir.DataType.FLOAT16
        and made.dtype == ir.DataType.FLOAT
        and g.constant(source) is not None
    )


def _is_matrix(value: ir.Value | None) -> bool:
    array = g.constant(stored(value))
    return array is not None and array.ndim == 2


def _bias(matmul: ir.Node, add: ir.Node) -> ir.Value | None:
    """The constant vector that ``add`` adds to the product with a constant matrix."""
    if add.op_type != "Add" or not _is_matrix(matmul.inputs[1]):
        return None
    other = add.inputs[1] if add.inputs[0] is matmul.outputs[0] else add.inputs[0]
    array, matrix = g.constant(stored(other)), g.constant(stored(matmul.inputs[1]))
    if array is None or matrix is None or array.size != matrix.shape[1]:
        return None
    rank = g.rank(matmul.outputs[0])
    fits = array.ndim > 0 and array.shape[-1] == array.size
    return other if fits and rank is not None and array.ndim <= rank else None
