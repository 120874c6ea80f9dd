"""Functions of one element, and of a row: Softmax and norms along the last axis."""

from typing import Any

import numpy as np

from qcompile.targets.tflite.reader.context import Context
from qcompile.targets.tflite.reading import Operator


def relu(ctx: Context, op: Operator) -> None:
    """Relu."""
    plain(ctx, op, "Relu")


def relu6(ctx: Context, op: Operator) -> None:
    """Clip to 0..6."""
    _clamp(ctx, op, "relu6")


def relu_n1_to_1(ctx: Context, op: Operator) -> None:
    """Clip to -1..1."""
    _clamp(ctx, op, "relu_n1_to_1")


def relu_0_to_1(ctx: Context, op: Operator) -> None:
    """Clip to 0..1."""
    _clamp(ctx, op, "relu_0_to_1")


def leaky_relu(ctx: Context, op: Operator) -> None:
    """LeakyRelu."""
    plain(ctx, op, "LeakyRelu", alpha=float(op.options.get("alpha", 0.0)))


def elu(ctx: Context, op: Operator) -> None:
    """Elu of alpha 1."""
    plain(ctx, op, "Elu")


def gelu(ctx: Context, op: Operator) -> None:
    """Gelu, exact or by tanh."""
    near = bool(op.options.get("approximate", False))
    plain(ctx, op, "Gelu", approximate="tanh" if near else "none")


def hard_swish(ctx: Context, op: Operator) -> None:
    """HardSwish."""
    plain(ctx, op, "HardSwish")


def logistic(ctx: Context, op: Operator) -> None:
    """Sigmoid."""
    plain(ctx, op, "Sigmoid")


def tanh(ctx: Context, op: Operator) -> None:
    """Tanh."""
    plain(ctx, op, "Tanh")


def absolute(ctx: Context, op: Operator) -> None:
    """Abs."""
    plain(ctx, op, "Abs")


def neg(ctx: Context, op: Operator) -> None:
    """Neg."""
    plain(ctx, op, "Neg")


def exp(ctx: Context, op: Operator) -> None:
    """Exp."""
    plain(ctx, op, "Exp")


def log(ctx: Context, op: Operator) -> None:
    """Log."""
    plain(ctx, op, "Log")


def sqrt(ctx: Context, op: Operator) -> None:
    """Sqrt."""
    plain(ctx, op, "Sqrt")


def rsqrt(ctx: Context, op: Operator) -> None:
    """Reciprocal of Sqrt."""
    x = ctx.read(op, 0)
    ctx.give(op, ctx.add("Reciprocal", [ctx.add("Sqrt", [x.value])]), x.perm)


def square(ctx: Context, op: Operator) -> None:
    """``x * x``."""
    x = ctx.read(op, 0)
    ctx.give(op, ctx.add("Mul", [x.value, x.value]), x.perm)


def floor(ctx: Context, op: Operator) -> None:
    """Floor."""
    plain(ctx, op, "Floor")


def ceil(ctx: Context, op: Operator) -> None:
    """Ceil."""
    plain(ctx, op, "Ceil")


def round_(ctx: Context, op: Operator) -> None:
    """Round: halves go to the even neighbour in both."""
    plain(ctx, op, "Round")


def sin(ctx: Context, op: Operator) -> None:
    """Sin."""
    plain(ctx, op, "Sin")


def cos(ctx: Context, op: Operator) -> None:
    """Cos."""
    plain(ctx, op, "Cos")


def sign(ctx: Context, op: Operator) -> None:
    """Sign."""
    plain(ctx, op, "Sign")


def logical_not(ctx: Context, op: Operator) -> None:
    """Not."""
    plain(ctx, op, "Not")


def softmax(ctx: Context, op: Operator) -> None:
    """Softmax along the last axis; ``beta`` multiplies what goes in."""
    x = ctx.read(op, 0)
    beta, value = float(op.options.get("beta", 1.0)), x.value
    if beta != 1.0:
        value = ctx.add("Mul", [value, ctx.array("beta", np.asarray(beta, np.float32))])
    made = ctx.add("Softmax", [value], {"axis": x.perm.index(len(x.perm) - 1)})
    ctx.give(op, made, x.perm)


def log_softmax(ctx: Context, op: Operator) -> None:
    """LogSoftmax along the last axis."""
    x = ctx.read(op, 0)
    made = ctx.add("LogSoftmax", [x.value], {"axis": x.perm.index(len(x.perm) - 1)})
    ctx.give(op, made, x.perm)


def l2_normalization(ctx: Context, op: Operator) -> None:
    """LpNormalization of order 2 along the last axis."""
    x = ctx.read(op, 0)
    axis = x.perm.index(len(x.perm) - 1)
    made = ctx.add("LpNormalization", [x.value], {"axis": axis, "p": 2})
    ctx.give(op, ctx.activated(op, made), x.perm)


def plain(ctx: Context, op: Operator, kind: str, **attributes: Any) -> None:
    """One node of one operand, in the order in which it lies."""
    x = ctx.read(op, 0)
    ctx.give(op, ctx.add(kind, [x.value], attributes), x.perm)


def _clamp(ctx: Context, op: Operator, name: str) -> None:
    x = ctx.read(op, 0)
    ctx.give(op, ctx.clamped(name, x.value), x.perm)
