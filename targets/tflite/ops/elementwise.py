"""Arithmetic element by element: operands broadcast in whatever order the result is stored."""

import numpy as np
import onnx_ir as ir

from qcompile.targets.tflite.builder import Options, Quantization
from qcompile.targets.tflite.context import Context, Operand
from qcompile.targets.tflite.layout import Perm, identity
from qcompile.targets.tflite.operand import UNWRITTEN


def add(ctx: Context, node: ir.Node) -> None:
    """ADD; scales are free, also in int16 (``potScaleInt16`` is off)."""
    _binary(ctx, node, "ADD", "AddOptions", potScaleInt16=False)


def sub(ctx: Context, node: ir.Node) -> None:
    """SUB, as ADD."""
    _binary(ctx, node, "SUB", "SubOptions", potScaleInt16=False)


def mul(ctx: Context, node: ir.Node) -> None:
    """MUL; scales are free."""
    _binary(ctx, node, "MUL", "MulOptions")


def maximum(ctx: Context, node: ir.Node) -> None:
    """MAXIMUM, which compares raw integers: operands are brought to the result's parameters."""
    _extremum(ctx, node, "MAXIMUM")


def minimum(ctx: Context, node: ir.Node) -> None:
    """MINIMUM, as MAXIMUM."""
    _extremum(ctx, node, "MINIMUM")


def common_perm(ctx: Context, operands: list[Operand], shape: tuple[int, ...]) -> Perm:
    """The order in which a result is stored: that of the largest computed operand of its rank."""
    rank = len(shape)
    full = [x for x in operands if x.rank == rank and x.data is None]
    if not full:
        return identity(rank)
    return max(full, key=lambda x: x.size).perm


def spread(ctx: Context, x: Operand, rank: int, perm: Perm) -> Operand:
    """An operand of any rank for a result of ``rank`` axes that is stored by ``perm``.

    The runtime broadcasts by itself, from the last axis; axes of size 1 are put in front where the
    order of the axes needs them.
    """
    if x.data is not None:
        data = x.data.reshape((1,) * (rank - x.rank) + x.shape)
        q = x.quantization
        if q is not None and q.scale.size > 1:
            q = q.along(q.axis + rank - x.rank)
        return Operand(UNWRITTEN, data.shape, perm, x.dtype, q, data, x.name)
    if x.rank == rank:
        return ctx.stored_as(x, perm)
    lead = rank - x.rank
    if perm == identity(rank):
        return ctx.stored_as(x, identity(x.rank))
    shape = (1,) * lead + x.shape
    order = (*range(lead), *(axis + lead for axis in x.perm))
    return ctx.stored_as(ctx.reshaped(x, shape, order), perm)


def _binary(
    ctx: Context,
    node: ir.Node,
    op: str,
    options: str,
    **fields: object,
) -> None:
    shape = ctx.shape(node)
    operands = [ctx.read(node, 0), ctx.read(node, 1)]
    perm = common_perm(ctx, operands, shape)
    operands = [spread(ctx, x, len(shape), perm) for x in operands]
    y = ctx.define(ctx.unit.end, perm)
    if y.dtype in {"int8", "int16", "float32"}:
        fields["fusedActivationFunction"] = ctx.unit.activation
    ctx.emit(op, operands, [y], Options(options, fields))


def _extremum(ctx: Context, node: ir.Node, op: str) -> None:
    """Of any number of operands: a chain."""
    shape = ctx.shape(node)
    params = ctx.output_parameters(node)
    operands = [ctx.read(node, i) for i in range(len(node.inputs))]
    perm = common_perm(ctx, operands, shape)
    operands = [spread(ctx, _with(ctx, x, params), len(shape), perm) for x in operands]
    if len(operands) == 1:
        ctx.alias(node, operands[0])
        return
    y = ctx.define(node, perm)
    result = operands[0]
    for number, operand in enumerate(operands[1:], 2):
        last = number == len(operands)
        sizes = np.broadcast_shapes(result.shape, operand.shape)
        made = y if last else ctx.temporary(y, f"{y.name}_{number}", sizes, perm)
        ctx.emit(op, [result, operand], [made], Options("MaximumMinimumOptions", {}))
        result = made


def _with(ctx: Context, x: Operand, params: Quantization | None) -> Operand:
    return x if params is None else ctx.requantized(x, params)
