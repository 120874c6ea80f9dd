"""Normalizations and norms, which TFLite lacks, composed of float operators."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.tflite.builder import Options, Quantization
from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.operand import Operand
from qcompile.targets.tflite.ops.elementwise import spread
from qcompile.targets.tflite.ops.floats import Formula
from qcompile.targets.tflite.ops.forms import (
    emit_as,
    in_floats,
    known,
    last_stored,
    reshape_into,
    takes_bytes,
)
from qcompile.targets.tflite.ops.reduce import reduced_axes, remaining
from qcompile.targets.tflite.ops.shape import regrouped

_WHY = "the variance of integers would need scales that the plan does not have"
_EPSILON = 1e-5


def layer_normalization(ctx: Context, node: ir.Node) -> None:
    """``(x - mean) * rsqrt(var + eps) * scale + bias`` over the axes from ``axis`` on."""
    _only_first_output(ctx, node)
    in_floats(ctx, node, _WHY)
    x = ctx.read(node, 0)
    axes = range(g.attribute_int(node, "axis", -1) % x.rank, x.rank)
    f = Formula(ctx, node, x.perm)
    normal = _normalized(f, x, axes, g.attribute_float(node, "epsilon", _EPSILON))
    _affine(f, node, normal, *(_parameter(ctx, node, i, x) for i in (1, 2)))


def rms_normalization(ctx: Context, node: ir.Node) -> None:
    """``x * rsqrt(mean(x * x) + eps) * scale`` over the axes from ``axis`` on.

    ONNX's RMSNormalization and ONNX Runtime's SimplifiedLayerNormalization.
    """
    _only_first_output(ctx, node)
    in_floats(ctx, node, _WHY)
    x = ctx.read(node, 0)
    axes = range(g.attribute_int(node, "axis", -1) % x.rank, x.rank)
    f = Formula(ctx, node, x.perm)
    power = f.mean(f.binary("MUL", x, x), axes)
    factor = _root(f, power, g.attribute_float(node, "epsilon", _EPSILON))
    _affine(f, node, f.binary("MUL", x, factor), _parameter(ctx, node, 1, x), None)


def instance_normalization(ctx: Context, node: ir.Node) -> None:
    """As LayerNormalization, over the spatial axes; scale and bias are a channel's."""
    in_floats(ctx, node, _WHY)
    x = ctx.read(node, 0)
    f = Formula(ctx, node, x.perm)
    normal = _normalized(f, x, range(2, x.rank), g.attribute_float(node, "epsilon", _EPSILON))
    _affine(f, node, normal, *(_channels(ctx, node, i, x) for i in (1, 2)))


def group_normalization(ctx: Context, node: ir.Node) -> None:
    """As InstanceNormalization, over the channels of a group and the spatial axes together.

    The channels are split in two axes, which no layout minds; scale and bias are a channel's.
    """
    in_floats(ctx, node, _WHY)
    x = ctx.read(node, 0)
    groups = g.attribute_int(node, "num_groups", 1)
    wide = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    order = regrouped(x.perm, x.shape, wide)
    if order is None:
        raise ctx.refuse(node, "its channels do not lie together")
    split = ctx.reshaped(x, wide, order)
    f = Formula(ctx, node, order)
    epsilon = g.attribute_float(node, "epsilon", _EPSILON)
    normal = ctx.reshaped(_normalized(f, split, range(2, len(wide)), epsilon), x.shape, x.perm)
    _affine(Formula(ctx, node, x.perm), node, normal, *(_channels(ctx, node, i, x) for i in (1, 2)))


def batch_normalization(ctx: Context, node: ir.Node) -> None:
    """``x * (scale / sqrt(var + eps)) + (bias - mean * ...)`` with constant parameters.

    One that is next to a convolution was folded into it before.
    """
    in_floats(ctx, node, "it could not be folded into a convolution")
    if len(node.outputs) > 1 or g.attribute_int(node, "training_mode", 0):
        raise ctx.refuse(node, "it is in training mode")
    arrays = [known(ctx, node, i) for i in range(1, 5)]
    if any(array is None for array in arrays):
        raise ctx.refuse(node, "its parameters are computed as the model runs")
    scale, bias, mean, variance = (np.asarray(a, np.float64) for a in arrays)
    factor = scale / np.sqrt(variance + g.attribute_float(node, "epsilon", _EPSILON))
    x = ctx.read(node, 0)
    f = Formula(ctx, node, x.perm)
    shape = (-1, *(1,) * (x.rank - 2))
    factors, offsets = (
        spread(
            ctx,
            ctx.constant(f"{node.name}_{title}", a.astype(np.float32).reshape(shape)),
            x.rank,
            x.perm,
        )
        for title, a in (("factor", factor), ("offset", bias - mean * factor))
    )
    f.result("ADD", f.binary("MUL", x, factors), offsets)


def lp_normalization(ctx: Context, node: ir.Node) -> None:
    """L2_NORMALIZATION along the innermost axis of the tensor; p = 1 is refused."""
    if g.attribute_int(node, "p", 2) != 2:
        raise ctx.refuse(node, "TFLite normalizes by the sum of squares only")
    own = None
    if takes_bytes(node):
        ctx.integer = True
        own = Quantization.of(np.float32(2.0**-7), np.zeros(()))
    else:
        in_floats(ctx, node, "it has no 16-bit kernel")
    x = ctx.read(node, 0)
    axis = g.attribute_int(node, "axis", -1) % x.rank
    x = ctx.stored_as(x, last_stored(x.perm, axis))
    options = Options("L2NormOptions", {"fusedActivationFunction": 0})
    emit_as(ctx, node, "L2_NORMALIZATION", [x], x.perm, own, options)


def reduce_l2(ctx: Context, node: ir.Node) -> None:
    """``sqrt(sum(x * x))``."""
    in_floats(ctx, node, _WHY)
    x = ctx.read(node, 0)
    f = Formula(ctx, node, x.perm)
    axes = reduced_axes(ctx, node, x.rank)
    if not axes:
        f.result("ABS", x)
        return
    total = f.reduced("SUM", f.binary("MUL", x, x), axes)
    if g.attribute_int(node, "keepdims", 1):
        f.result("SQRT", total)
        return
    reshape_into(ctx, f.unary("SQRT", total), ctx.define(node, remaining(x.perm, axes)))


def _normalized(f: Formula, x: Operand, axes: Sequence[int], epsilon: float) -> Operand:
    """``(x - mean) * rsqrt(mean((x - mean)^2) + eps)``."""
    centred = f.binary("SUB", x, f.mean(x, axes))
    variance = f.mean(f.binary("MUL", centred, centred), axes)
    return f.binary("MUL", centred, _root(f, variance, epsilon))


def _root(f: Formula, power: Operand, epsilon: float) -> Operand:
    return f.unary("RSQRT", f.binary("ADD", power, epsilon))


def _affine(
    f: Formula, node: ir.Node, normal: Operand, scale: Operand | None, bias: Operand | None
) -> None:
    """``normal * scale + bias`` as the node's output; None is left out."""
    if bias is None:
        f.result("MUL", normal, 1.0 if scale is None else scale)
        return
    f.result("ADD", normal if scale is None else f.binary("MUL", normal, scale), bias)


def _parameter(ctx: Context, node: ir.Node, index: int, x: Operand) -> Operand | None:
    """A scale or bias that broadcasts against the last axes of ``x``, in its layout."""
    if not ctx.has(node, index):
        return None
    return spread(ctx, ctx.read(node, index), x.rank, x.perm)


def _channels(ctx: Context, node: ir.Node, index: int, x: Operand) -> Operand:
    """A scale or bias, one a channel, in the layout of ``x``."""
    array = known(ctx, node, index)
    if array is None or array.size != x.shape[1]:
        raise ctx.refuse(node, "its scale or bias is not a constant of one number a channel")
    wide = array.astype(np.float32).reshape(-1, *(1,) * (x.rank - 2))
    return spread(ctx, ctx.constant(f"{node.name}_{index}", wide), x.rank, x.perm)


def _only_first_output(ctx: Context, node: ir.Node) -> None:
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        raise ctx.refuse(node, "its mean or deviation is read")
