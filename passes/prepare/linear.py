"""Conv, ConvTranspose, Gemm and MatMul seen alike: a constant weight and a bias per channel.

For such a layer L(x) = W x + b and vectors s, t over its output or input channels:

    s * L(x) + t = (s W) x + (s b + t)              ``fold_after``
    L(s * x + t) = (W s) x + (b + W t)              ``fold_before``

All arithmetic is float64, rounded once to the type of the weight.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import (
    attribute_float,
    attribute_int,
    attribute_ints,
    attribute_str,
    constant,
    rank,
)
from qcompile.passes.prepare.edit import has_input, is_constant, is_op, replace, set_constant

Vector = np.ndarray
"""float64, shape (channels,)."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A node with a constant weight whose bias is constant or absent."""

    node: ir.Node
    weight_shape: tuple[int, ...]
    bias: np.ndarray | None
    """float64 (out_channels,), what is added to the output (for Gemm: beta * C); None if absent."""
    groups: int
    out_channels: int
    in_channels: int
    channel_axis: int
    """The axis of the output along which its channels lie."""
    output_rank: int

    @property
    def weight(self) -> np.ndarray:
        """The weight as it lies in the node's second input."""
        array = constant(self.node.inputs[1])
        assert array is not None
        return array

    @property
    def pads_with_zeros(self) -> bool:
        """Whether some outputs see zeros from outside the input, so a shift is not constant."""
        node = self.node
        if is_op(node, "Gemm", "MatMul"):
            return False
        if is_op(node, "ConvTranspose"):
            return True
        if attribute_str(node, "auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
            return True
        return any(attribute_ints(node, "pads"))

    @property
    def takes_shift(self) -> bool:
        """Whether a bias can be added: always, but for a MatMul that cannot become a Gemm."""
        return not is_op(self.node, "MatMul") or (
            self.output_rank == 2 and rank(self.node.inputs[0]) == 2
        )

    @property
    def out_axis(self) -> int:
        """The axis of ``grouped()`` along which the output channels of a group lie (1 or 2)."""
        transposed = is_op(self.node, "Gemm") and attribute_int(self.node, "transB", 0)
        return 1 if transposed or is_op(self.node, "Conv") else 2

    def over_outputs(self, vector: Vector) -> np.ndarray:
        """A vector over output channels, shaped to broadcast over ``grouped()``."""
        return self._over(vector, self.out_axis)

    def over_inputs(self, vector: Vector) -> np.ndarray:
        """A vector over input channels, shaped to broadcast over ``grouped()``."""
        return self._over(vector, 3 - self.out_axis)

    def _over(self, vector: Vector, axis: int) -> np.ndarray:
        shape = [self.groups, *[1] * len(self.weight_shape)]
        shape[axis] = -1
        return vector.reshape(shape)

    def grouped(self) -> np.ndarray:
        """The weight with its groups as an axis of their own, in front; float64."""
        w = self.weight
        return w.reshape(self.groups, w.shape[0] // self.groups, *w.shape[1:]).astype(np.float64)


def layer_of(node: ir.Node | None) -> Layer | None:
    """The node as a layer; None when it is another op or its weight or bias is computed."""
    if node is None or not is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    shape = _float_shape(node.inputs[1])
    if shape is None or len(shape) < 2:
        return None
    if is_op(node, "MatMul"):
        return _matmul(node, shape)
    groups = attribute_int(node, "group", 1)
    out_channels, in_channels = shape[0], shape[1] * groups
    if is_op(node, "ConvTranspose"):
        out_channels, in_channels = shape[1] * groups, shape[0]
    if is_op(node, "Gemm") and not attribute_int(node, "transB", 0):
        out_channels, in_channels = in_channels, out_channels
    bias = None
    if has_input(node, 2):
        c = constant(node.inputs[2])
        if c is None or c.ndim > 2 or c.size not in (1, out_channels):
            return None
        if c.ndim == 2 and c.shape[0] != 1:
            return None
        beta = attribute_float(node, "beta", 1.0) if is_op(node, "Gemm") else 1.0
        bias = np.broadcast_to(c.astype(np.float64).reshape(-1) * beta, (out_channels,))
    return Layer(node, shape, bias, groups, out_channels, in_channels, 1, len(shape))


def _matmul(node: ir.Node, shape: tuple[int, ...]) -> Layer | None:
    dims = rank(node.outputs[0])
    if len(shape) != 2 or dims is None or dims < 2 or rank(node.inputs[0]) is None:
        return None
    return Layer(node, shape, None, 1, shape[1], shape[0], dims - 1, dims)


def _float_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of a constant of a floating type; nothing is loaded."""
    if value is None or not is_constant(value) or value.const_value is None:
        return None
    tensor = value.const_value
    if not tensor.dtype.is_floating_point():
        return None
    return tuple(int(n) for n in tensor.shape.numpy())


def fold_after(layer: Layer, scale: Vector | None, shift: Vector | None, pass_name: str) -> ir.Node:
    """Make the layer compute ``scale * L(x) + shift``; None stands for 1 or 0.

    A MatMul that gets a shift becomes a Gemm.

    Returns:
        The node that computes it now.
    """
    bias = layer.bias
    if scale is not None:
        _set_weight(layer, layer.grouped() * layer.over_outputs(scale))
        bias = None if bias is None else bias * scale
    if shift is not None:
        bias = shift if bias is None else bias + shift
    return _set_bias(layer, bias, pass_name)


def fold_before(layer: Layer, scale: Vector, shift: Vector | None, pass_name: str) -> ir.Node:
    """Make the layer compute ``L(scale * x + shift)``; the shift needs an unpadded layer.

    Returns:
        The node that computes it now.
    """
    grouped = layer.grouped()
    bias = layer.bias
    if shift is not None:
        added = _apply(layer, grouped, shift)
        bias = added if bias is None else bias + added
    _set_weight(layer, grouped * layer.over_inputs(scale))
    return _set_bias(layer, bias, pass_name)


def _apply(layer: Layer, grouped: np.ndarray, vector: Vector) -> Vector:
    """What the layer's weight makes of an input that is ``vector`` at every position."""
    product = grouped * layer.over_inputs(vector)
    axes = tuple(axis for axis in range(1, product.ndim) if axis != layer.out_axis)
    alpha = attribute_float(layer.node, "alpha", 1.0) if is_op(layer.node, "Gemm") else 1.0
    return np.asarray(product.sum(axis=axes).reshape(-1) * alpha)


def _set_weight(layer: Layer, grouped: np.ndarray) -> None:
    folded = grouped.reshape(layer.weight_shape).astype(layer.weight.dtype)
    set_constant(layer.node, 1, folded)


def _set_bias(layer: Layer, bias: Vector | None, pass_name: str) -> ir.Node:
    node = layer.node
    if bias is None or bias is layer.bias:
        return node
    array = np.ascontiguousarray(bias.astype(layer.weight.dtype))
    if is_op(node, "MatMul"):
        node = replace(node, "Gemm", list(node.inputs), pass_name)
    elif is_op(node, "Gemm"):
        node.attributes.pop("beta", None)
    weight = node.inputs[1]
    assert weight is not None
    set_constant(node, 2, array, f"{weight.name}.bias")
    return node
