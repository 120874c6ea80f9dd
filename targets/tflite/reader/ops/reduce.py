"""Reductions over axes: means, sums, extremes, and where the largest elements are."""

import onnx_ir as ir

from qcompile.targets.tflite.layout import Perm, identity
from qcompile.targets.tflite.ops.reduce import remaining
from qcompile.targets.tflite.reader.context import Context
from qcompile.targets.tflite.reader.quantizing import TYPES
from qcompile.targets.tflite.reading import Operator


def mean(ctx: Context, op: Operator) -> None:
    """ReduceMean."""
    _reduce(ctx, op, "ReduceMean")


def total(ctx: Context, op: Operator) -> None:
    """ReduceSum."""
    _reduce(ctx, op, "ReduceSum")


def product(ctx: Context, op: Operator) -> None:
    """ReduceProd."""
    _reduce(ctx, op, "ReduceProd")


def reduce_max(ctx: Context, op: Operator) -> None:
    """ReduceMax."""
    _reduce(ctx, op, "ReduceMax")


def reduce_min(ctx: Context, op: Operator) -> None:
    """ReduceMin."""
    _reduce(ctx, op, "ReduceMin")


def arg_max(ctx: Context, op: Operator) -> None:
    """ArgMax."""
    _extreme(ctx, op, "ArgMax")


def arg_min(ctx: Context, op: Operator) -> None:
    """ArgMin."""
    _extreme(ctx, op, "ArgMin")


def cumsum(ctx: Context, op: Operator) -> None:
    """CumSum."""
    x = ctx.read(op, 0)
    (axis,) = (ctx.axis(a, len(x.perm)) for a in ctx.ints(op, 1))
    attributes = {k: int(bool(op.options.get(k, False))) for k in ("exclusive", "reverse")}
    along = ctx.int64("axis", [x.perm.index(axis)])
    scalar = ctx.add("Reshape", [along, ctx.int64("shape", [])])
    ctx.give(op, ctx.add("CumSum", [x.value, scalar], attributes), x.perm)


def top_k(ctx: Context, op: Operator) -> None:
    """TopK along the last axis, largest first."""
    rank = len(ctx.operand(op, 0).shape)
    x = ctx.read(op, 0, identity(rank))
    (count,) = ctx.ints(op, 1)
    values, indices = ctx.add_many("TopK", [x.value, ctx.int64("k", [count])], {"axis": -1}, 2)
    ctx.give(op, values, x.perm)
    ctx.give(op, _typed(ctx, op, indices, 1), x.perm, 1)


def _reduce(ctx: Context, op: Operator, kind: str) -> None:
    x = ctx.read(op, 0)
    rank = len(x.perm)
    axes = sorted({ctx.axis(a, rank) for a in ctx.ints(op, 1)})
    keep = bool(op.options.get("keepDims", False))
    perm: Perm = x.perm if keep else remaining(x.perm, axes)
    if not axes:
        ctx.give(op, ctx.add("Identity", [x.value]), x.perm)
        return
    stored = sorted(x.perm.index(axis) for axis in axes)
    made = ctx.add(kind, [x.value, ctx.int64("axes", stored)], {"keepdims": int(keep)})
    ctx.give(op, made, perm)


def _extreme(ctx: Context, op: Operator, kind: str) -> None:
    x = ctx.read(op, 0)
    (axis,) = (ctx.axis(a, len(x.perm)) for a in ctx.ints(op, 1))
    attributes = {"axis": x.perm.index(axis), "keepdims": 0}
    made = ctx.add(kind, [x.value], attributes)
    ctx.give(op, _typed(ctx, op, made, 0), remaining(x.perm, [axis]))


def _typed(ctx: Context, op: Operator, indices: ir.Value, output: int) -> ir.Value:
    """Indices, which ONNX has in int64, in the type of an output."""
    kind = TYPES[ctx.result(op, output).dtype]
    return indices if kind == ir.DataType.INT64 else ctx.add("Cast", [indices], {"to": int(kind)})
