"""AVERAGE_POOL_2D and MAX_POOL_2D."""

from qcompile.targets.tflite.reader.context import Context
from qcompile.targets.tflite.reader.ops.windows import FIRST, pads_of
from qcompile.targets.tflite.reading import Operator


def average_pool_2d(ctx: Context, op: Operator) -> None:
    """AveragePool; padding is not counted."""
    _pool(ctx, op, "AveragePool")


def max_pool_2d(ctx: Context, op: Operator) -> None:
    """MaxPool."""
    _pool(ctx, op, "MaxPool")


def _pool(ctx: Context, op: Operator, kind: str) -> None:
    kernel = (int(op.options["filterHeight"]), int(op.options["filterWidth"]))
    strides = (int(op.options["strideH"]), int(op.options["strideW"]))
    pads = pads_of(ctx, op, kernel, strides)
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    made = ctx.add(kind, [ctx.read(op, 0, FIRST).value], attributes)
    ctx.give(op, ctx.activated(op, made), FIRST)
