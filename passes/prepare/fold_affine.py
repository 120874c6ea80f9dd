"""Constant Mul, Div, Add and Sub after a layer folded into its weight and bias."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import constant, only_consumer
from qcompile.passes.prepare.edit import absorb, is_op, walk
from qcompile.passes.prepare.linear import Layer, Vector, fold_after, layer_of

NAME = "FoldAffine"


@dataclass(frozen=True)
class FoldAffine(ir.passes.InPlacePass):
    """Fold a constant affine step after Conv, ConvTranspose, Gemm or MatMul. Keeps the floats.

    With c a constant that is a scalar or has one value per output channel, in float64:

    1. ``L(x) * c``, ``L(x) / c``: the weight and bias are multiplied by c or 1 / c.
    2. ``L(x) + c``, ``L(x) - c``, ``c - L(x)``: c goes into the bias (and -1 into the weight).
    3. ``MatMul(x, W) + c`` with x and W of rank 2 becomes Gemm(x, W, c).

    Chains are folded one step after the other. Left alone: layers whose output is read elsewhere
    or is a graph output, MatMul + c of rank 3 and more (runtimes fuse the pair themselves),
    constants that vary along another axis or raise the rank, 1 / c that is not finite.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if not is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        return False
    step = only_consumer(node.outputs[0])
    if step is None or step.graph is not node.graph:
        return False
    if not is_op(step, "Mul", "Div", "Add", "Sub"):
        return False
    layer = layer_of(node)
    if layer is None:
        return False
    folded = _affine(step, layer)
    if folded is None:
        return False
    scale, shift = folded
    if shift is not None and not layer.takes_shift:
        return False
    absorb(fold_after(layer, scale, shift, NAME), step, NAME)
    return True


def _affine(step: ir.Node, layer: Layer) -> tuple[Vector | None, Vector | None] | None:
    """The (scale, shift) that ``step`` applies to the layer's output, None each for 1 and 0."""
    layer_first = step.inputs[0] is layer.node.outputs[0]
    c = _per_channel(constant(step.inputs[1 if layer_first else 0]), layer)
    if c is None:
        return None
    if step.op_type == "Mul":
        return c, None
    if step.op_type == "Add":
        return None, c
    if step.op_type == "Sub":
        return (None, -c) if layer_first else (-np.ones_like(c), c)
    return (1.0 / c, None) if layer_first and np.all(c) else None


def _per_channel(array: np.ndarray | None, layer: Layer) -> Vector | None:
    """The constant as one value per output channel, if it is that."""
    if array is None or array.ndim > layer.output_rank or not np.isfinite(array).all():
        return None
    shape = (1,) * (layer.output_rank - array.ndim) + array.shape
    axis = layer.channel_axis
    if any(n != 1 for i, n in enumerate(shape) if i != axis):
        return None
    if shape[axis] not in (1, layer.out_channels):
        return None
    vector = np.broadcast_to(array.astype(np.float64).reshape(-1), (layer.out_channels,))
    return np.ascontiguousarray(vector)
