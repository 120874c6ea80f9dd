"""Reductions over axes, on any layout: MEAN, SUM, REDUCE_MAX, REDUCE_MIN."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.context import Context, Operand
from qcompile.targets.tflite.layout import Perm, stored_axis


def reduce_mean(ctx: Context, node: ir.Node) -> None:
    """MEAN; parameters are free."""
    _reduce(ctx, node, "MEAN")


def reduce_sum(ctx: Context, node: ir.Node) -> None:
    """SUM; parameters are free (the reference kernel alone gets them wrong)."""
    _reduce(ctx, node, "SUM")


def reduce_max(ctx: Context, node: ir.Node) -> None:
    """REDUCE_MAX, which ignores parameters: the input is brought to the result's."""
    _reduce(ctx, node, "REDUCE_MAX", same=True)


def reduce_min(ctx: Context, node: ir.Node) -> None:
    """REDUCE_MIN, as REDUCE_MAX."""
    _reduce(ctx, node, "REDUCE_MIN", same=True)


def _reduce(ctx: Context, node: ir.Node, op: str, *, same: bool = False) -> None:
    x = ctx.read(node, 0)
    axes = reduced_axes(ctx, node, x.rank)
    if not axes:
        ctx.alias(node, x)
        return
    keep = bool(g.attribute_int(node, "keepdims", 1))
    reduce_over(ctx, node, op, x, axes, keep=keep, same=same)


def reduce_over(
    ctx: Context,
    node: ir.Node,
    op: str,
    x: Operand,
    axes: Sequence[int],
    *,
    keep: bool,
    same: bool = False,
) -> None:
    """Reduce logical ``axes`` of ``x`` into the node's output.

    Args:
        ctx: the lowering.
        node: whose output it is.
        op: the operator.
        x: operand in any order.
        axes: logical, not negative.
        keep: whether they stay as axes of size 1.
        same: whether the operator needs equal parameters on both sides.
    """
    params = ctx.output_parameters(node)
    if same and params is not None:
        x = ctx.requantized(x, params)
    y = ctx.define(node, x.perm if keep else remaining(x.perm, axes))
    stored = sorted(stored_axis(x.perm, axis) for axis in axes)
    operands = [x, ctx.constant("axes", np.asarray(stored, np.int32))]
    ctx.emit(op, operands, [y], Options("ReducerOptions", {"keepDims": keep}))


def remaining(perm: Perm, axes: Sequence[int]) -> Perm:
    """The order of the axes that a reduction leaves, numbered anew."""
    left = [axis for axis in perm if axis not in axes]
    numbers = {axis: number for number, axis in enumerate(sorted(left))}
    return tuple(numbers[axis] for axis in left)


def reduced_axes(ctx: Context, node: ir.Node, rank: int) -> tuple[int, ...]:
    """Logical axes; an input since opset 13 or 18, an attribute before."""
    if ctx.has(node, 1):
        axes = ctx.ints(node, 1)
        if axes is None:
            raise ctx.refuse(node, "its axes are computed as the model runs")
    else:
        axes = g.attribute_ints(node, "axes", ())
    if not axes:
        nothing = g.attribute_int(node, "noop_with_empty_axes", 0)
        return () if nothing else tuple(range(rank))
    return tuple(sorted(axis % rank for axis in axes))
