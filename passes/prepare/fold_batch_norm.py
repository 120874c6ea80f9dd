"""BatchNormalization folded into the layer before or after it, or rewritten as Mul and Add."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import (
    attribute_float,
    attribute_int,
    constant,
    inherit,
    make_initializer,
    only_consumer,
    rank,
)
from qcompile.core.norms import Norm, remember_norm
from qcompile.passes.prepare.edit import absorb, graph_of, insert, is_op, replace, walk
from qcompile.passes.prepare.linear import Layer, fold_after, fold_before, layer_of

NAME = "FoldBatchNorm"

SHIFT_LIMIT = 16.0
"""A shift that stays in the graph is at most so many standard deviations of the widest channel.

More would make the range of the shifted value, which one scale has to cover, mostly shift.
"""


@dataclass(frozen=True, eq=False)
class Affine:
    """What a BatchNormalization computes: ``scale * x + shift`` per channel (axis 1), float64."""

    scale: np.ndarray
    shift: np.ndarray
    deviation: np.ndarray
    """The standard deviation of ``x`` per channel that the training saw."""
    mean: np.ndarray
    """The mean of ``x`` likewise."""

    @property
    def before(self) -> Norm:
        """What the training saw of ``x``."""
        return Norm(self.mean, self.deviation)

    @property
    def after(self) -> Norm:
        """The same of the result: mean beta, deviation gamma."""
        return Norm(self.scale * self.mean + self.shift, np.abs(self.scale) * self.deviation)

    @property
    def shift_before_scale(self) -> np.ndarray | None:
        """The ``t`` of ``scale * (x + t)``; None where it is not finite or beyond SHIFT_LIMIT."""
        if not np.all(self.scale):
            return None
        shift = self.shift / self.scale
        within = np.abs(shift).max() <= SHIFT_LIMIT * self.deviation.max()
        return np.asarray(shift) if within else None


@dataclass(frozen=True)
class FoldBatchNorm(ir.passes.InPlacePass):
    """Fold ``BN(x) = s * x + t``, s = gamma / sqrt(var + eps), t = beta - mean * s. Keeps floats.

    In the order tried:

    1. Layer (Conv, ConvTranspose, Gemm, rank-2 MatMul) -> BN: the layer computes s * L(x) + t.
       A weight or bias that other nodes read is copied for this layer only. A layer whose output
       is read elsewhere too, or is a graph output, is left alone: folding would double its work.
    2. BN -> layers, where every reader is a layer that reads it as its data: each computes
       L(s * x + t). With zero padding (and in ConvTranspose) t is not constant at the border, so
       only s is folded and ``Add(x, t / s)`` stays; and only when t / s is finite and moderate.
    3. What remains becomes ``Add(Mul(x, s), t)``.

    The mean and deviation that the training saw are remembered for the value in whose place the
    layer's output now is, in 2. for the data (``core.norms``).

    Left alone: training mode, further outputs in use, parameters that are computed, unknown rank.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    affine = _affine_of(node)
    if affine is None:
        return False
    graph, name, data = graph_of(node), node.outputs[0].name or "", node.inputs[0]
    remember_norm(graph, name, affine.after)
    if data is not None:
        remember_norm(graph, data.name or "", affine.before)
    if not (_fold_after(node, affine) or _fold_before(node, affine)):
        _decompose(node, affine)
    return True


def _affine_of(node: ir.Node) -> Affine | None:
    """The affine map of a node that is a BatchNormalization in inference form."""
    if not is_op(node, "BatchNormalization") or attribute_int(node, "training_mode", 0):
        return None
    if any(o.uses() or o.is_graph_output() for o in node.outputs[1:]):
        return None
    parameters = [constant(v) for v in node.inputs[1:5]]
    if len(parameters) < 4 or rank(node.inputs[0]) is None:
        return None
    present = [p.astype(np.float64) for p in parameters if p is not None]
    if len(present) < 4:
        return None
    gamma, beta, mean, variance = present
    deviation = np.sqrt(variance + attribute_float(node, "epsilon", 1e-5))
    scale = gamma / deviation
    shift = beta - mean * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return None
    return Affine(scale, shift, deviation, mean)


def _fold_after(node: ir.Node, affine: Affine) -> bool:
    data = node.inputs[0]
    if data is None or only_consumer(data) is not node:
        return False
    layer = layer_of(data.producer())
    if layer is None or layer.channel_axis != 1 or not layer.takes_shift:
        return False
    absorb(fold_after(layer, affine.scale, affine.shift, NAME), node, NAME)
    return True


def _fold_before(node: ir.Node, affine: Affine) -> bool:
    layers = _reading_layers(node)
    if not layers:
        return False
    data = node.inputs[0]
    assert data is not None
    shift: np.ndarray | None = affine.shift
    if np.any(affine.shift) and any(layer.pads_with_zeros for layer in layers):
        left = affine.shift_before_scale
        if left is None:
            return False
        data, shift = _insert(node, "Add", data, left, "shift"), None
        moved = Norm(affine.mean + left, affine.deviation)
        remember_norm(graph_of(node), data.name or "", moved)
    for layer in layers:
        folded = fold_before(layer, affine.scale, shift, NAME)
        inherit(folded, NAME, node, folded)
        folded.replace_input_with(0, data)
    graph_of(node).remove(node, safe=True)
    return True


def _reading_layers(node: ir.Node) -> list[Layer]:
    """The layers that read the output, if nobody else does and all can take the fold."""
    output = node.outputs[0]
    if output.is_graph_output():
        return []
    layers = []
    for use in output.uses():
        layer = layer_of(use.node)
        if layer is None or use.idx != 0 or use.node.graph is not node.graph:
            return []
        if not _channels_are_inputs(layer, output) or not layer.takes_shift:
            return []
        layers.append(layer)
    return layers


def _channels_are_inputs(layer: Layer, data: ir.Value) -> bool:
    """Whether axis 1 of the data is what the layer sums over."""
    if is_op(layer.node, "Gemm"):
        return not attribute_int(layer.node, "transA", 0)
    return not is_op(layer.node, "MatMul") or rank(data) == 2


def _decompose(node: ir.Node, affine: Affine) -> None:
    data = node.inputs[0]
    assert data is not None
    product = _insert(node, "Mul", data, affine.scale, "scale")
    shift = _constant(node, affine.shift, "shift", data)
    replace(node, "Add", [product, shift], NAME)


def _insert(node: ir.Node, op_type: str, data: ir.Value, vector: np.ndarray, what: str) -> ir.Value:
    operands = [data, _constant(node, vector, what, data)]
    name = f"{node.outputs[0].name}.{op_type}"
    return insert(node, op_type, operands, name, NAME, like=data)


def _constant(node: ir.Node, vector: np.ndarray, what: str, data: ir.Value) -> ir.Value:
    """An initializer that holds a value per channel, shaped to broadcast along axis 1."""
    dims = rank(data)
    assert dims is not None
    dtype = np.float32 if data.dtype is None else data.dtype.numpy()
    shape = (1, -1, *[1] * (dims - 2)) if dims >= 2 else (-1,)
    array = vector.reshape(shape).astype(dtype)
    return make_initializer(graph_of(node), f"{node.outputs[0].name}.{what}", array)
