"""Activations and signs that have an operator of their own; Softmax, a function of a row."""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.tflite import qdq
from qcompile.targets.tflite.builder import Options, Quantization
from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.ops.elementwise import spread
from qcompile.targets.tflite.ops.forms import (
    constant,
    emit_as,
    in_floats,
    in_integers,
    known,
    last_stored,
    plain,
    takes_bytes,
    times,
)
from qcompile.targets.tflite.ops.tabled import table

Function = Callable[[np.ndarray], np.ndarray]

FIXED: Final = {
    ("LOGISTIC", "int8"): (2.0**-8, -128),
    ("TANH", "int8"): (2.0**-7, 0),
    ("SOFTMAX", "int8"): (2.0**-8, -128),
    ("LOG_SOFTMAX", "int8"): (2.0**-4, 127),
    ("LOGISTIC", "int16"): (2.0**-15, 0),
    ("TANH", "int16"): (2.0**-15, 0),
    ("SOFTMAX", "int16"): (2.0**-15, 0),
}
"""Operator and type -> scale and zero point that the kernel gives its output, whatever is asked."""

_NO_INT16: Final = "its 16-bit kernel is wrong or missing"


def sigmoid(ctx: Context, node: ir.Node) -> None:
    """LOGISTIC."""
    _fixed(ctx, node, "LOGISTIC")


def tanh(ctx: Context, node: ir.Node) -> None:
    """TANH."""
    _fixed(ctx, node, "TANH")


def abs_(ctx: Context, node: ir.Node) -> None:
    """ABS: scales are free."""
    plain(ctx, node, "ABS")


def hard_swish(ctx: Context, node: ir.Node) -> None:
    """HARD_SWISH; in int16 as floats."""
    if ctx.integer and not takes_bytes(node):
        in_floats(ctx, node, _NO_INT16)
    plain(ctx, node, "HARD_SWISH")


def gelu(ctx: Context, node: ir.Node) -> None:
    """GELU, exact or by tanh; in int8 it is a table, in int16 it goes as floats."""
    if _without_kernel(ctx, node, "GELU"):
        near = g.attribute_str(node, "approximate", "none") == "tanh"
        table(ctx, node, _gelu_by_tanh if near else _gelu)
        return
    if ctx.integer and not takes_bytes(node):
        in_floats(ctx, node, _NO_INT16)
    near = g.attribute_str(node, "approximate", "none") == "tanh"
    plain(ctx, node, "GELU", Options("GeluOptions", {"approximate": near}))


def exp(ctx: Context, node: ir.Node) -> None:
    """EXP, which is a table in int8; in int16 it goes as floats."""
    if _without_kernel(ctx, node, "EXP"):
        table(ctx, node, np.exp)
        return
    if ctx.integer and not takes_bytes(node):
        in_floats(ctx, node, _NO_INT16)
    plain(ctx, node, "EXP", unbounded=True)


def _without_kernel(ctx: Context, node: ir.Node, kernel: str) -> bool:
    """Whether this is an int8 op whose kernel the target has not."""
    rule = ctx.target.rule(node.op_type)
    return rule is not None and kernel not in rule.kernels and takes_bytes(node)


def _gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])


def _gelu_by_tanh(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def leaky_relu(ctx: Context, node: ir.Node) -> None:
    """LEAKY_RELU: scales are free."""
    alpha = g.attribute_float(node, "alpha", 0.01)
    plain(ctx, node, "LEAKY_RELU", Options("LeakyReluOptions", {"alpha": alpha}))


def prelu(ctx: Context, node: ir.Node) -> None:
    """PRELU; in int16, where the kernel is garbage, as floats."""
    if takes_bytes(node) and known(ctx, node, 1) is not None:
        in_integers(ctx)
    elif ctx.integer:
        in_floats(ctx, node, _NO_INT16)
    x, slope = ctx.read(node, 0), ctx.read(node, 1)
    if not fits(slope.shape, x.shape):
        raise ctx.refuse(node, f"slopes of shape {slope.shape} do not fit {x.shape}")
    if x.is_quantized and not slope.is_quantized:
        scale = np.float32(max(float(np.abs(slope.real).max()), 1e-6) / 127)
        slope = constant(ctx, slope.name, slope.real, Quantization.of(scale, np.zeros(())), "int8")
    y = ctx.define(node, x.perm)
    ctx.emit("PRELU", [x, spread(ctx, slope, x.rank, x.perm)], [y])


def fits(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    """Whether an operand can be spread to a shape, lined up from the last axis."""
    if len(small) > len(large):
        return False
    return all(n in (1, m) for n, m in zip(small[::-1], large[::-1], strict=False))


def softmax(ctx: Context, node: ir.Node) -> None:
    """SOFTMAX along the innermost axis of the tensor; another axis is brought there."""
    _along_last(ctx, node, "SOFTMAX", Options("SoftmaxOptions", {"beta": 1.0}))


def log_softmax(ctx: Context, node: ir.Node) -> None:
    """LOG_SOFTMAX, as softmax; in int16 as floats."""
    if ctx.integer and not takes_bytes(node):
        in_floats(ctx, node, _NO_INT16)
    _along_last(ctx, node, "LOG_SOFTMAX", Options("LogSoftmaxOptions", {}))


def neg(ctx: Context, node: ir.Node) -> None:
    """NEG in floats; in integers, where it negates the raw integer, MUL by -1."""
    if ctx.integer:
        times(ctx, node, -1.0)
    else:
        plain(ctx, node, "NEG")


def _fixed(ctx: Context, node: ir.Node, op: str) -> None:
    """One operator whose kernel gives its own output parameters."""
    x = ctx.read(node, 0)
    emit_as(ctx, node, op, [x], x.perm, _own_parameters(ctx, node, op))


def _own_parameters(ctx: Context, node: ir.Node, op: str) -> Quantization | None:
    if not ctx.integer:
        return None
    quantizer = qdq.quantizer(node.outputs[0])
    assert quantizer is not None
    scale, zero = FIXED[op, qdq.parameters(quantizer)[1]]
    return Quantization.of(np.float32(scale), np.asarray(zero))


def _along_last(ctx: Context, node: ir.Node, op: str, told: Options) -> None:
    """An operator along the innermost axis of the tensor."""
    x = ctx.read(node, 0)
    axis = g.attribute_int(node, "axis", -1) % x.rank
    x = ctx.stored_as(x, last_stored(x.perm, axis))
    emit_as(ctx, node, op, [x], x.perm, _own_parameters(ctx, node, op), told)
