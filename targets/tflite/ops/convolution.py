"""Conv and ConvTranspose as CONV_2D, DEPTHWISE_CONV_2D and TRANSPOSE_CONV."""

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.context import Context, Operand
from qcompile.targets.tflite.layout import channels_last
from qcompile.targets.tflite.ops.bias import bias_for
from qcompile.targets.tflite.ops.padding import SAME, VALID, pad, padded, window_of


def conv(ctx: Context, node: ir.Node) -> None:
    """Conv over one or two spatial axes, grouped or depthwise.

    W (M, C/group, kh, kw) becomes (M, kh, kw, C/group), per-channel along 0; for a depthwise one
    (1, kh, kw, M), per-channel along 3. Padding that SAME or VALID cannot say becomes a PAD. One
    spatial axis is two, the first of size 1: a RESHAPE around, or none between two such.
    """
    w = ctx.read_weight(node)
    if w.data is None:
        raise ctx.refuse(node, "its weight is computed as the model runs")
    if w.rank not in (3, 4):
        raise ctx.refuse(node, f"it has {w.rank - 2} spatial dimensions, not 1 or 2")
    x = ctx.read(node, 0, channels_last(w.rank))
    group = g.attribute_int(node, "group", 1)
    out = ctx.shape(ctx.unit.end)
    window = window_of(node, x.shape[2:], out[2:], w.shape[2:])
    x, padding = padded(ctx, x, window)
    w = _as_picture(w)
    strides, dilations = ((1, *v)[-2:] for v in (window.strides, window.dilations))
    fields = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "fusedActivationFunction": ctx.unit.activation,
    }
    depthwise = group > 1 and group == x.shape[1]
    weight = _depthwise_weight(ctx, w) if depthwise else _weight(ctx, w)
    operands = [_as_picture_of(ctx, x), weight, _bias(ctx, node, x, w)]
    y = ctx.define(ctx.unit.end, channels_last(x.rank))
    flat = y
    if y.rank == 3:
        flat = ctx.temporary(
            y, f"{y.name}_picture", (*y.shape[:2], 1, y.shape[2]), channels_last(4)
        )
    if depthwise:
        fields["depthMultiplier"] = w.shape[0] // group
        ctx.emit("DEPTHWISE_CONV_2D", operands, [flat], Options("DepthwiseConv2DOptions", fields))
    else:
        ctx.emit("CONV_2D", operands, [flat], Options("Conv2DOptions", fields))
    if flat is not y:
        ctx.reshape_into(flat, y)


def _as_picture(w: Operand) -> Operand:
    """A weight (M, C, k) as (M, C, 1, k)."""
    if w.rank == 4:
        return w
    assert w.data is not None
    data = w.data[:, :, None]
    return Operand(w.index, data.shape, (0, 1, 2, 3), w.dtype, w.quantization, data, w.name)


def _as_picture_of(ctx: Context, x: Operand) -> Operand:
    """A signal (N, C, L) as (N, C, 1, L), channels last."""
    if x.rank == 4:
        return x
    n, c, length = x.shape
    return ctx.reshaped(x, (n, c, 1, length), channels_last(4))


def _weight(ctx: Context, w: Operand) -> Operand:
    assert w.data is not None
    q = None if w.quantization is None else w.quantization.along(0)
    return ctx.constant(w.name, w.data, q, perm=(0, 2, 3, 1), dtype=w.dtype)


def _depthwise_weight(ctx: Context, w: Operand) -> Operand:
    """(M, 1, kh, kw) stored as (1, kh, kw, M)."""
    assert w.data is not None
    q = None if w.quantization is None else w.quantization.along(0)
    return ctx.constant(w.name, w.data, q, perm=(1, 2, 3, 0), dtype=w.dtype)


def _bias(ctx: Context, node: ir.Node, x: Operand, w: Operand) -> Operand:
    """The bias, or zeros: convolutions do not load without one."""
    given = ctx.read(node, 2) if ctx.has(node, 2) else None
    if given is not None and given.data is None:
        raise ctx.refuse(node, "its bias is computed as the model runs")
    return bias_for(ctx, given, x, w, ctx.shape(node)[1])


def conv_transpose(ctx: Context, node: ir.Node) -> None:
    """ConvTranspose over two spatial axes.

    W (C, M, kh, kw) becomes (M, kh, kw, C). TRANSPOSE_CONV makes all of the full result (VALID) or
    the part that SAME names; any other part is cut out of the full one by SLICE.
    """
    w = ctx.read(node, 1)
    if w.data is None or w.rank != 4:
        raise ctx.refuse(node, "it needs a constant weight and two spatial dimensions")
    if g.attribute_int(node, "group", 1) != 1:
        raise ctx.refuse(node, "TRANSPOSE_CONV has one group")
    if any(d != 1 for d in g.attribute_ints(node, "dilations", (1, 1))):
        raise ctx.refuse(node, "TRANSPOSE_CONV has no dilation")
    nhwc = channels_last(4)
    x = ctx.read(node, 0, nhwc)
    out = ctx.shape(node)
    strides = g.attribute_ints(node, "strides", (1, 1))
    begin = _crop_begin(node, x.shape[2:], w.shape[2:], out[2:], strides)
    full = tuple(s * (i - 1) + k for i, k, s in zip(x.shape[2:], w.shape[2:], strides, strict=True))
    q = None if w.quantization is None else w.quantization.along(0)
    turned = np.ascontiguousarray(np.transpose(w.data, (1, 2, 3, 0)))
    weight = ctx.constant(w.name, turned, q, dtype=w.dtype)
    bias = _bias(ctx, node, x, w)
    y = ctx.define(node, nhwc)
    same = all(
        o == i * s and b == max(f - o, 0) // 2 and f >= o
        for o, i, s, b, f in zip(out[2:], x.shape[2:], strides, begin, full, strict=True)
    )
    if same or (full == out[2:] and not any(begin)):
        _emit(ctx, (x, weight, bias), y, strides, SAME if same else VALID)
        return
    grown = tuple(max(f, b + o) for f, b, o in zip(full, begin, out[2:], strict=True))
    if grown != full and y.is_quantized:
        raise ctx.refuse(node, "TRANSPOSE_CONV has no output padding")
    whole = ctx.temporary(y, f"{y.name}_full", (*out[:2], *full), nhwc)
    if grown == full:
        _emit(ctx, (x, weight, bias), whole, strides, VALID)
        _cut(ctx, whole, y, begin)
        return
    # What lies past the full result is the bias alone, which is added when all else is done.
    zeros = ctx.constant(f"{node.name}_no_bias", np.zeros(out[1], np.float32))
    _emit(ctx, (x, weight, zeros), whole, strides, VALID)
    more = [(0, 0), (0, 0), *((0, a - f) for a, f in zip(grown, full, strict=True))]
    part = ctx.temporary(y, f"{y.name}_part", y.shape, nhwc)
    _cut(ctx, pad(ctx, whole, more), part, begin)
    fields = {"fusedActivationFunction": 0}
    ctx.emit("ADD", [part, bias], [y], Options("AddOptions", fields))


def _crop_begin(
    node: ir.Node,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    out: tuple[int, ...],
    strides: tuple[int, ...],
) -> tuple[int, ...]:
    """How much of the full result is cut off before the part that ONNX asks for."""
    mode = g.attribute_str(node, "auto_pad", "NOTSET")
    told = g.attribute_ints(node, "output_shape", ())
    if mode == "NOTSET" and not told:
        return g.attribute_ints(node, "pads", (0,) * 4)[:2]
    extra = g.attribute_ints(node, "output_padding", (0, 0))
    begin = []
    for i, s in enumerate(strides):
        total = max(s * (size[i] - 1) + extra[i] + kernel[i] - out[i], 0)
        begin.append((total if mode == "SAME_UPPER" else total + 1) // 2)
    return tuple(begin)


def _emit(
    ctx: Context,
    operands: tuple[Operand, Operand, Operand],
    y: Operand,
    strides: tuple[int, ...],
    padding: int,
) -> None:
    x, weight, bias = operands
    fields = {"padding": padding, "strideH": strides[0], "strideW": strides[1]}
    shape = ctx.constant("output_shape", np.asarray(y.stored_shape, np.int32))
    ctx.emit(
        "TRANSPOSE_CONV", [shape, weight, x, bias], [y], Options("TransposeConvOptions", fields)
    )


def _cut(ctx: Context, x: Operand, y: Operand, begin: tuple[int, ...]) -> None:
    start = np.asarray([0, *begin, 0], np.int32)
    sizes = np.asarray(y.stored_shape, np.int32)
    operands = [x, ctx.constant("begin", start), ctx.constant("size", sizes)]
    ctx.emit("SLICE", operands, [y], Options("SliceOptions", {}))
