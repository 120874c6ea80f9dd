"""Conv and ConvTranspose as CONV_2D, DEPTHWISE_CONV_2D and TRANSPOSE_CONV."""

import numpy as np
import onnx_ir as ir
from qcompile.targets.tflite.ops.activation import fused
from qcompile.targets.tflite.ops.padding import padded

from qcompile.core import graph as g
from qcompile.targets.tflite.builder import Options, Quantization
from qcompile.targets.tflite.context import Context, Operand
from qcompile.targets.tflite.layout import channels_last


def conv(ctx: Context, node: ir.Node) -> None:
    """2-D Conv, grouped or depthwise.

    W (M, C/group, kh, kw) becomes (M, kh, kw, C/group), per-channel along 0; for a depthwise one
    (1, kh, kw, M), per-channel along 3. Padding that SAME or VALID cannot say becomes a PAD.
    """
    nhwc = channels_last(4)
    x = ctx.read(node, 0, nhwc)
    w = ctx.read(node, 1)
    if len(x.shape) != 4 or w.data is None:
        raise ctx.refuse(node, "only 2-D convolutions with constant weights are written")
    group = g.attribute_int(node, "group", 1)
    depthwise = group > 1 and group == x.shape[1]
    strides = g.attribute_ints(node, "strides", (1, 1))
    dilations = g.attribute_ints(node, "dilations", (1, 1))
    x, padding = padded(ctx, node, x, w.shape[2:], strides, dilations)
    activation, out = fused(ctx, node)
    bias = _bias(ctx, node, x, w)
    fields = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "fusedActivationFunction": activation,
    }
    y = ctx.define(out, nhwc)
    if depthwise:
        weight = _relaid(ctx, w, np.transpose(w.data, (1, 2, 3, 0)), axis=3)
        fields["depthMultiplier"] = w.shape[0] // group
        options = Options("DepthwiseConv2DOptions", fields)
        ctx.emit("DEPTHWISE_CONV_2D", [x, weight, bias], [y], options)
    else:
        weight = _relaid(ctx, w, np.transpose(w.data, (0, 2, 3, 1)), axis=0)
        ctx.emit("CONV_2D", [x, weight, bias], [y], Options("Conv2DOptions", fields))


def _relaid(ctx: Context, w: Operand, array: np.ndarray, axis: int) -> Operand:
    """The weight as a constant of its own shape, its scales along ``axis``."""
    q = w.quantization
    moved = None if q is None else Quantization(q.scale, q.zero_point, axis)
    return ctx.constant(ctx.name_of(w), array, moved, dtype=w.dtype)


def _bias(ctx: Context, node: ir.Node, x: Operand, w: Operand) -> Operand:
    """The bias, or zeros: CONV_2D does not load without one."""
    if ctx.has(node, 2):
        return ctx.read(node, 2)
    zeros = np.zeros(w.shape[0], np.int32 if x.is_quantized else np.float32)
    if x.quantization is None or w.quantization is None:
        return ctx.constant(f"{node.name}_bias", zeros)
    scale = x.quantization.scale * w.quantization.scale
    return ctx.constant(f"{node.name}_bias", zeros, Quantization.of(scale, np.zeros(())))
