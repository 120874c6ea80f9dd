"""Arithmetic element by element, comparisons and choices: operands broadcast from the last axis."""

import numpy as np
import onnx_ir as ir

from qcompile.targets.tflite.layout import Perm, identity
from qcompile.targets.tflite.reader.context import Context
from qcompile.targets.tflite.reader.quantizing import TYPES
from qcompile.targets.tflite.reading import Operator


def add(ctx: Context, op: Operator) -> None:
    """Add."""
    _binary(ctx, op, "Add")


def sub(ctx: Context, op: Operator) -> None:
    """Sub."""
    _binary(ctx, op, "Sub")


def mul(ctx: Context, op: Operator) -> None:
    """Mul."""
    _binary(ctx, op, "Mul")


def div(ctx: Context, op: Operator) -> None:
    """Div."""
    _binary(ctx, op, "Div")


def maximum(ctx: Context, op: Operator) -> None:
    """Max."""
    _binary(ctx, op, "Max")


def minimum(ctx: Context, op: Operator) -> None:
    """Min."""
    _binary(ctx, op, "Min")


def power(ctx: Context, op: Operator) -> None:
    """Pow."""
    _binary(ctx, op, "Pow")


def squared_difference(ctx: Context, op: Operator) -> None:
    """``(a - b) * (a - b)``."""
    (a, b), perm = _operands(ctx, op, (0, 1))
    difference = ctx.add("Sub", [a, b])
    ctx.give(op, ctx.add("Mul", [difference, difference]), perm)


def add_n(ctx: Context, op: Operator) -> None:
    """Sum of any number."""
    ctx.correct(op.outputs[0], ctx.operand(op, 0).shape)
    values, perm = _operands(ctx, op, tuple(range(len(op.inputs))))
    ctx.give(op, ctx.add("Sum", values), perm)


def floor_div(ctx: Context, op: Operator) -> None:
    """The quotient rounded down: ``(a - mod(a, b)) / b`` in integers, since Div truncates."""
    (a, b), perm = _operands(ctx, op, (0, 1))
    if ctx.result(op).dtype == "float32":
        ctx.give(op, ctx.add("Floor", [ctx.add("Div", [a, b])]), perm)
        return
    whole = ctx.add("Sub", [a, ctx.add("Mod", [a, b])])
    ctx.give(op, ctx.add("Div", [whole, b]), perm)


def floor_mod(ctx: Context, op: Operator) -> None:
    """The rest, which has the divisor's sign; in floats by two of C's, which have the other."""
    (a, b), perm = _operands(ctx, op, (0, 1))
    if "int" in ctx.result(op).dtype:
        ctx.give(op, ctx.add("Mod", [a, b]), perm)
        return
    rest = ctx.add("Mod", [a, b], {"fmod": 1})
    ctx.give(op, ctx.add("Mod", [ctx.add("Add", [rest, b]), b], {"fmod": 1}), perm)


def prelu(ctx: Context, op: Operator) -> None:
    """PRelu: the slope broadcasts to the data."""
    _binary(ctx, op, "PRelu")


def equal(ctx: Context, op: Operator) -> None:
    """Equal."""
    _binary(ctx, op, "Equal")


def not_equal(ctx: Context, op: Operator) -> None:
    """Not of Equal."""
    values, perm = _operands(ctx, op, (0, 1))
    ctx.give(op, ctx.add("Not", [ctx.add("Equal", values)]), perm)


def greater(ctx: Context, op: Operator) -> None:
    """Greater."""
    _binary(ctx, op, "Greater")


def greater_equal(ctx: Context, op: Operator) -> None:
    """GreaterOrEqual."""
    _binary(ctx, op, "GreaterOrEqual")


def less(ctx: Context, op: Operator) -> None:
    """Less."""
    _binary(ctx, op, "Less")


def less_equal(ctx: Context, op: Operator) -> None:
    """LessOrEqual."""
    _binary(ctx, op, "LessOrEqual")


def logical_and(ctx: Context, op: Operator) -> None:
    """And."""
    _binary(ctx, op, "And")


def logical_or(ctx: Context, op: Operator) -> None:
    """Or."""
    _binary(ctx, op, "Or")


def select_v2(ctx: Context, op: Operator) -> None:
    """Where; of truth values ``c and a or not c and b``, for which ONNX Runtime has kernels."""
    (condition, a, b), perm = _operands(ctx, op, (0, 1, 2))
    if ctx.result(op).dtype != "bool":
        ctx.give(op, ctx.add("Where", [condition, a, b]), perm)
        return
    first = ctx.add("And", [condition, a])
    second = ctx.add("And", [ctx.add("Not", [condition]), b])
    ctx.give(op, ctx.add("Or", [first, second]), perm)


def select(ctx: Context, op: Operator) -> None:
    """Where; a condition of rank 1 is one for each first index."""
    condition, shape = ctx.operand(op, 0).shape, ctx.operand(op, 1).shape
    ctx.correct(op.outputs[0], shape)
    if len(condition) != 1 or len(shape) < 2:
        select_v2(ctx, op)
        return
    perm = identity(len(shape))
    first = ctx.int64("shape", (*condition, *(1,) * (len(shape) - 1)))
    whole = ctx.add("Reshape", [ctx.read(op, 0).value, first])
    sides = [ctx.spread(op, i, len(shape), perm) for i in (1, 2)]
    ctx.give(op, ctx.add("Where", [whole, *sides]), perm)


def cast(ctx: Context, op: Operator) -> None:
    """Cast, of integers as they are stored."""
    x, kind = ctx.raw(op, 0), TYPES.get(ctx.result(op).dtype)
    if kind is None:
        raise ctx.refuse(f"CAST to {ctx.result(op).dtype}")
    made = ctx.add("Cast", [x.value], {"to": int(kind)})
    ctx.give_stored(op, made, x.perm)


def quantize(ctx: Context, op: Operator) -> None:
    """Other parameters: the value of the input behind the output's quantizer."""
    x = ctx.read(op, 0)
    ctx.give(op, x.value, x.perm)


def dequantize(ctx: Context, op: Operator) -> None:
    """Floats of what is quantized, or of float16; a constant is read by whoever needs it."""
    source, target = op.inputs[0], op.outputs[0]
    tensor = ctx.operand(op, 0)
    if tensor.is_constant:
        ctx.tensors[target] = tensor
        return
    x = ctx.read(op, 0)
    value = x.value
    if tensor.dtype == "float16":
        value = ctx.add("Cast", [value], {"to": int(ir.DataType.FLOAT)})
    elif tensor.quantization is None:
        raise ctx.invalid(f"tensor {source} is dequantized and has no scale")
    ctx.give(op, value, x.perm)


def _binary(ctx: Context, op: Operator, kind: str) -> None:
    values, perm = _operands(ctx, op, (0, 1))
    ctx.give(op, ctx.activated(op, ctx.add(kind, values)), perm)


def _operands(ctx: Context, op: Operator, indices: tuple[int, ...]) -> tuple[list[ir.Value], Perm]:
    """Operands for one result, in the order in which the largest of its rank lies."""
    rank = len(ctx.result(op).shape)
    tensors = [ctx.operand(op, i) for i in indices]
    full = [
        (t, i)
        for t, i in zip(tensors, indices, strict=True)
        if len(t.shape) == rank and not t.is_constant
    ]
    perm = identity(rank)
    if full:
        _, largest = max(full, key=lambda pair: pair[0].size)
        perm = ctx.read(op, largest).perm
    if np.broadcast_shapes(*(t.shape for t in tensors)) != ctx.result(op).shape:
        raise ctx.invalid(f"the operands of {op.name} do not make its output's shape")
    return [ctx.spread(op, i, rank, perm) for i in indices], perm
