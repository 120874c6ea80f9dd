"""Stored weights: matrices whose nodes compute in floats and whose numbers may be integers.

A stored weight is always looked at as K x N: K inputs of each of N columns. Groups of elements that
share a scale lie along K.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.plan import QuantPlan

READS_WEIGHT = {"MatMul": 1, "Gemm": 1, "Gather": 0}
"""Op -> the input that holds its weight, or the table that it reads rows of."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A node and the matrix that it reads."""

    node: ir.Node
    weight: ir.Value
    axis: int
    """The axis of the matrix along which K lies: 0 or 1."""

    @property
    def name(self) -> str:
        """Of the matrix."""
        return self.weight.name or ""

    @property
    def is_table(self) -> bool:
        """Whether rows are read of it: K is then the length of a row, N the number of rows."""
        return self.node.op_type == "Gather"

    @property
    def rows(self) -> int:
        """K."""
        return int((g.static_shape(self.weight) or (0, 0))[self.axis])

    @property
    def columns(self) -> int:
        """N."""
        return int((g.static_shape(self.weight) or (0, 0))[1 - self.axis])

    def matrix(self) -> np.ndarray:
        """The floats, (K, N); a view of the tensor, not a copy."""
        return as_columns(_array(self.weight), self.axis)


def as_columns(array: np.ndarray, axis: int) -> np.ndarray:
    """A matrix whose K lies along ``axis`` as (K, N), or back."""
    return array if axis == 0 else array.T


def same_numbers(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two matrices are equal, as an embedding and the head tied to it are, turned.

    A few rows and columns tell most that are not; only equal ones are read whole.
    """
    if one.shape != other.shape:
        return False
    corner = np.s_[:64, :64]
    return np.array_equal(one[corner], other[corner]) and np.array_equal(one, other)


def stored_weight(node: ir.Node) -> Stored | str:
    """The matrix that a node reads, or why it reads none that could be stored in integers.

    Matched: ``MatMul`` with a constant matrix on its right; ``Gemm`` with a constant matrix, alpha
    and beta 1, its other operand as it is; ``Gather`` of rows (axis 0) of a constant matrix.
    """
    index = READS_WEIGHT.get(node.op_type)
    if index is None or node.domain not in {"", "ai.onnx"} or len(node.inputs) <= index:
        return f"{node.op_type} reads no weight"
    weight = node.inputs[index]
    if weight is None or weight.const_value is None or weight.is_graph_input():
        return _computed(node, index)
    shape = g.static_shape(weight) or ()
    if weight.dtype != ir.DataType.FLOAT:
        return f"its weight {weight.name} is {weight.dtype}, not float32"
    if len(shape) != 2:
        return f"its weight {weight.name} is of rank {len(shape)}, not a matrix"
    why = _unfit(node)
    if why:
        return why
    return Stored(node, weight, _axis(node))


def stored_weights(graph: ir.Graph, plan: QuantPlan) -> Iterator[Stored]:
    """The weights that a plan stores in integers, in graph order, once for each node."""
    for node in graph:
        if plan.mode(node.name) == "weights":
            stored = stored_weight(node)
            if isinstance(stored, Stored):
                yield stored


def _computed(node: ir.Node, index: int) -> str:
    if node.op_type == "MatMul" and g.constant(node.inputs[0]) is not None:
        return "its constant operand stands on the left"
    what = "the table it reads is" if node.op_type == "Gather" else "both of its operands are"
    return f"{what} computed, not constant"


def _unfit(node: ir.Node) -> str | None:
    """Why a node with a constant matrix does not read it as it stands."""
    if node.op_type == "Gather":
        return None if g.attribute_int(node, "axis", 0) == 0 else "it reads columns, not rows"
    if node.op_type == "Gemm":
        if g.attribute_int(node, "transA", 0):
            return "it transposes its activation"
        factors = [g.attribute_float(node, key, 1.0) for key in ("alpha", "beta")]
        if factors != [1.0, 1.0]:
            return "it has factors: alpha and beta must be 1"
    return None


def _axis(node: ir.Node) -> int:
    if node.op_type == "Gather":
        return 1
    return g.attribute_int(node, "transB", 0) if node.op_type == "Gemm" else 0


def _array(value: ir.Value) -> np.ndarray:
    array = g.constant(value)
    assert array is not None
    return array
