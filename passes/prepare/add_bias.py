"""Gives every convolution and Gemm with a constant weight a bias: one number an output channel."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.units import output_channel_axis
from qcompile.passes.prepare.edit import is_constant, is_op

_NAME = "AddBias"


@dataclass
class AddBias(ir.passes.InPlacePass):
    """``Conv(x, W)`` becomes ``Conv(x, W, 0)``, likewise ConvTranspose and Gemm.

    A later pass can then correct the layer's mean without changing the graph, and runtimes whose
    kernels insist on a bias find one. It costs four bytes an output channel. The float function is
    kept to the bit.

    1. A layer without a bias gets one of zeros.
    2. A constant bias of a Gemm that is one number, or one row, becomes a vector.
    3. So does what is added to ``MatMul(x, W)``, where it has no more dimensions than the product.

    Left alone: layers whose weight is computed; a bias that differs from row to row; MatMul without
    an Add (it takes no bias).
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walk the nodes once."""
        modified = False
        for node in model.graph:
            channels = _missing(node)
            if channels:
                zeros = np.zeros(channels, np.float32)
                bias = g.make_initializer(model.graph, f"{node.name}_bias", zeros)
                if len(node.inputs) < 3:
                    node.resize_inputs(3)
                node.replace_input_with(2, bias)
                modified = True
            elif (index := _bias_index(node)) is not None:
                modified |= _make_vector(model.graph, node, index, _channels(node))
        return ir.passes.PassResult(model, modified)


def _bias_index(node: ir.Node) -> int | None:
    """Which input of a Gemm, or of an Add behind a MatMul, is its bias."""
    if is_op(node, "Gemm"):
        return 2 if len(node.inputs) > 2 else None
    if not is_op(node, "Add"):
        return None
    products = [_product(v) for v in node.inputs]
    return None if products[0] == products[1] else products.index(False)


def _product(value: ir.Value | None) -> bool:
    """Whether a value is the product of something and a constant matrix."""
    node = value.producer() if value is not None else None
    if node is None or not is_op(node, "MatMul"):
        return False
    return g.rank(node.inputs[1]) == 2 and is_constant(node.inputs[1])


def _channels(node: ir.Node) -> int:
    """Output channels of a Gemm, or of the MatMul in front of an Add; 0 when not known."""
    layer = node
    if node.op_type == "Add":
        producers = [v.producer() for v in node.inputs if v is not None and _product(v)]
        assert producers[0] is not None
        layer = producers[0]
    shape = g.static_shape(layer.inputs[1])
    axis = None if shape is None else output_channel_axis(layer, len(shape))
    return 0 if shape is None or axis is None else shape[axis]


def _make_vector(graph: ir.Graph, node: ir.Node, index: int, channels: int) -> bool:
    old = node.inputs[index]
    array = g.constant(old)
    if old is None or array is None or array.shape == (channels,) or not channels:
        return False
    if array.size not in {1, channels} or (array.ndim and array.shape[-1] != array.size):
        return False
    rank = g.rank(node.inputs[1 - index]) if node.op_type == "Add" else 2
    if rank is None or array.ndim > rank:
        return False
    vector = np.broadcast_to(array.reshape(-1), (channels,))
    node.replace_input_with(index, g.make_initializer(graph, f"{old.name}_vector", vector))
    return True


def _missing(node: ir.Node) -> int:
    """How many channels of bias a node lacks; 0 when it has one or cannot take one."""
    if node.domain or node.op_type not in {"Conv", "ConvTranspose", "Gemm"}:
        return 0
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    weight = node.inputs[1]
    shape = g.static_shape(weight)
    if has_bias or weight is None or g.constant(weight) is None or shape is None:
        return 0
    if weight.dtype != ir.DataType.FLOAT:
        return 0
    axis = output_channel_axis(node, len(shape))
    groups = g.attribute_int(node, "group", 1) if node.op_type == "ConvTranspose" else 1
    return 0 if axis is None else shape[axis] * groups
