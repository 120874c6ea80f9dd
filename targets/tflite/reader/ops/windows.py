"""SAME and VALID as the widths of padding that ONNX wants."""

from collections.abc import Sequence
from typing import Final

from qcompile.targets.tflite.reader.context import Context
from qcompile.targets.tflite.reading import Operator

FIRST: Final = (0, 3, 1, 2)
"""The order of axes of a picture with channels first, counted as TFLite has them."""

SAME, VALID = 0, 1
"""The schema's Padding."""


def padding_of(ctx: Context, op: Operator) -> int:
    """SAME or VALID."""
    return int(ctx.choice(op, "padding", {SAME: SAME, VALID: VALID}))


def pads_of(
    ctx: Context,
    op: Operator,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int] = (1, 1),
) -> tuple[int, ...]:
    """ONNX's ``pads`` of windows over a picture: SAME has the odd element at the end."""
    x, y = ctx.operand(op, 0), ctx.result(op)
    if len(x.shape) != 4 or len(y.shape) != 4:
        raise ctx.invalid(f"{op.name} takes pictures of 4 dimensions, not {x.shape}")
    if min(*strides, *dilations, *kernel) < 1:
        raise ctx.invalid(f"{op.name} has strides {strides} and windows {kernel} of {dilations}")
    if padding_of(ctx, op) == VALID:
        return (0, 0, 0, 0)
    begin, end = [], []
    for i in range(2):
        reach = dilations[i] * (kernel[i] - 1) + 1
        total = max((y.shape[1 + i] - 1) * strides[i] + reach - x.shape[1 + i], 0)
        begin.append(total // 2)
        end.append(total - total // 2)
    return (*begin, *end)
