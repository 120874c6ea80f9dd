"""The weight of a multiply-add as the matrix it is, whatever op reads it: group, input, output."""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g


@dataclass(frozen=True)
class WeightMatrix:
    """How a weight becomes a stack of matrices of shape (groups, K, M), and back.

    ``y[group, m] = sum_k x[group, k] * w[group, k, m]``: K inputs (channels of a group, then kernel
    positions), M outputs. A depthwise Conv has as many groups as channels, and M of 1.
    """

    op: str
    shape: tuple[int, ...]
    """Of the weight, ONNX layout."""
    groups: int = 1
    transposed: bool = False
    """A Gemm with transB."""

    def matrix(self, weight: np.ndarray) -> np.ndarray:
        """(groups, K, M) of an array of the weight's shape, or of one that broadcasts to it."""
        weight = np.broadcast_to(weight, self.shape)
        if self.op == "Conv":  # (groups * M, C, *kernel)
            return weight.reshape(self.groups, self.shape[0] // self.groups, -1).swapaxes(1, 2)
        if self.op == "ConvTranspose":  # (groups * C, M, *kernel)
            parts = weight.reshape(self.groups, -1, self.shape[1], math.prod(self.shape[2:]))
            return parts.swapaxes(2, 3).reshape(self.groups, -1, self.shape[1])
        return (weight.T if self.transposed else weight)[np.newaxis]

    def weight(self, matrix: np.ndarray) -> np.ndarray:
        """The array of the weight's shape, of (groups, K, M)."""
        if self.op == "Conv":
            made = matrix.swapaxes(1, 2).reshape(self.shape)
        elif self.op == "ConvTranspose":
            positions = math.prod(self.shape[2:])
            parts = matrix.reshape(self.groups, -1, positions, self.shape[1])
            made = parts.swapaxes(2, 3).reshape(self.shape)
        else:
            made = matrix[0].T if self.transposed else matrix[0]
        return np.ascontiguousarray(made)


def weight_matrix(node: ir.Node, shape: tuple[int, ...]) -> WeightMatrix | str:
    """The matrix of a multiply-add's weight, or why it has none: one sentence."""
    if node.op_type in {"Conv", "ConvTranspose"}:
        groups = g.attribute_int(node, "group", 1)
        return WeightMatrix(node.op_type, shape, groups)
    if len(shape) != 2:
        return f"its weight of rank {len(shape)} is no matrix"
    if node.op_type == "Gemm":
        if g.attribute_int(node, "transA", 0):
            return "it transposes its input"
        return WeightMatrix("Gemm", shape, transposed=bool(g.attribute_int(node, "transB", 0)))
    return WeightMatrix("MatMul", shape)
