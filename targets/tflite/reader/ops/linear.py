"""FULLY_CONNECTED and BATCH_MATMUL."""

import math

import onnx_ir as ir

from qcompile.targets.tflite.layout import identity
from qcompile.targets.tflite.reader.context import Context
from qcompile.targets.tflite.reader.quantizing import is_quantized
from qcompile.targets.tflite.reading import Operator


def fully_connected(ctx: Context, op: Operator) -> None:
    """Rows times a matrix (O, I): Gemm with ``transB`` and the bias.

    All axes before the last are rows. Where the output keeps them, it is MatMul with the matrix
    turned and Add; quantized, with a bias, Gemm between two Reshapes, since only a Gemm adds its
    bias before it rounds.
    """
    if ctx.choice(op, "weightsFormat", {0: False, 1: True}):
        raise ctx.refuse("weights in the order of one kernel (SHUFFLED4x16INT8)")
    x, w, y = ctx.operand(op, 0), ctx.operand(op, 1), ctx.result(op)
    rows = math.prod(y.shape[:-1])
    if rows * w.shape[1] != x.size or y.shape[-1] != w.shape[0]:
        raise ctx.invalid(f"rows of {x.shape} by a matrix {w.shape} do not make {y.shape}")
    perm = identity(len(y.shape))
    has_bias = ctx.has(op, 2)
    keeps_axes = len(y.shape) != 2 and x.shape[:-1] == y.shape[:-1]
    if keeps_axes and not (has_bias and is_quantized(y)):
        value = ctx.read(op, 0, identity(len(x.shape))).value
        value = ctx.add("MatMul", [value, ctx.read(op, 1, (1, 0)).value])
        if has_bias:
            value = ctx.add("Add", [value, ctx.read(op, 2).value])
    else:
        value = _as_rows(ctx, op, w.shape[1])
        operands = [value, ctx.read(op, 1, (0, 1)).value]
        operands += [ctx.read(op, 2).value] if has_bias else []
        value = ctx.add("Gemm", operands, {"transB": 1})
    if len(y.shape) != 2 and not (keeps_axes and not (has_bias and is_quantized(y))):
        value = ctx.quantizer.moved(y, ctx.activated(op, value))
        value = ctx.add("Reshape", [value, ctx.int64("shape", _open(ctx, op, y.shape))])
        ctx.give(op, value, perm)
        return
    ctx.give(op, ctx.activated(op, value), perm)


def _as_rows(ctx: Context, op: Operator, depth: int) -> ir.Value:
    """Operand 0 as a matrix of rows."""
    x = ctx.operand(op, 0)
    value = ctx.read(op, 0, identity(len(x.shape))).value
    if len(x.shape) == 2 and x.shape[1] == depth:
        return value
    flat = ctx.add("Reshape", [value, ctx.int64("shape", (-1, depth))])
    return ctx.quantizer.moved(x, flat)


def _open(ctx: Context, op: Operator, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (-1, *shape[1:]) if op.outputs[0] in ctx.dynamic else shape


def batch_matmul(ctx: Context, op: Operator) -> None:
    """MatMul; ``adjX`` and ``adjY`` are an order in which an operand is read."""
    values = []
    for index, option in enumerate(("adjX", "adjY")):
        rank = len(ctx.operand(op, index).shape)
        perm = identity(rank)
        if op.options.get(option, False):
            perm = (*perm[:-2], rank - 1, rank - 2)
        values.append(ctx.read(op, index, perm).value)
    ctx.give(op, ctx.add("MatMul", values), identity(len(ctx.result(op).shape)))
