"""CONV_2D, DEPTHWISE_CONV_2D and TRANSPOSE_CONV as Conv and ConvTranspose."""

import onnx_ir as ir

from qcompile.targets.tflite.reader.context import Context
from qcompile.targets.tflite.reader.ops.windows import FIRST, SAME, padding_of, pads_of
from qcompile.targets.tflite.reading import Operator


def conv_2d(ctx: Context, op: Operator) -> None:
    """W (M, kh, kw, C/group) becomes (M, C/group, kh, kw)."""
    channels, per_group = ctx.operand(op, 0).shape[3], ctx.operand(op, 1).shape[3]
    _conv(ctx, op, (0, 3, 1, 2), channels // per_group)


def depthwise_conv_2d(ctx: Context, op: Operator) -> None:
    """W (1, kh, kw, M) becomes (M, 1, kh, kw); there are as many groups as channels."""
    _conv(ctx, op, (3, 0, 1, 2), ctx.operand(op, 0).shape[3])


def _conv(ctx: Context, op: Operator, perm: tuple[int, ...], group: int) -> None:
    kernel = ctx.operand(op, 1).shape[1:3]
    strides = (int(op.options["strideH"]), int(op.options["strideW"]))
    dilations = (int(op.options["dilationHFactor"]), int(op.options["dilationWFactor"]))
    pads = pads_of(ctx, op, kernel, strides, dilations)
    operands = [ctx.read(op, 0, FIRST).value, ctx.read(op, 1, perm).value, _bias(ctx, op, 2)]
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "group": group,
    }
    ctx.give(op, ctx.activated(op, ctx.add("Conv", operands, attributes)), FIRST)


def transpose_conv(ctx: Context, op: Operator) -> None:
    """W (M, kh, kw, C) becomes (C, M, kh, kw).

    The output's size is an operand. From the full result (s * (i - 1) + k) SAME cuts what is too
    much, half of it in front; what a larger output has behind it is ``output_padding``.
    """
    size, kernel = ctx.operand(op, 2).shape[1:3], ctx.operand(op, 1).shape[1:3]
    out = ctx.result(op).shape[1:3]
    strides = (int(op.options["strideH"]), int(op.options["strideW"]))
    same = padding_of(ctx, op) == SAME
    begin, end, more = [], [], []
    for i, s in enumerate(strides):
        full = s * (size[i] - 1) + kernel[i]
        reach = (-(-out[i] // s) - 1) * s + kernel[i]
        begin.append(max(reach - out[i], 0) // 2 if same else 0)
        end.append(max(full - begin[i] - out[i], 0))
        more.append(max(out[i] + begin[i] - full, 0))
    if any(m >= s for m, s in zip(more, strides, strict=True)):
        raise ctx.refuse(f"TRANSPOSE_CONV to {out} makes more than its strides reach")
    operands = [ctx.read(op, 2, FIRST).value, ctx.read(op, 1, (3, 0, 1, 2)).value]
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": (*begin, *end),
        "output_padding": more if any(more) else None,
    }
    made = ctx.add("ConvTranspose", [*operands, _bias(ctx, op, 3)], attributes)
    ctx.give(op, ctx.activated(op, made), FIRST)


def _bias(ctx: Context, op: Operator, index: int) -> ir.Value | None:
    return ctx.read(op, index).value if ctx.has(op, index) else None
