"""Gemm and MatMul: FULLY_CONNECTED with a constant matrix, BATCH_MATMUL of two activations."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.tflite import qdq
from qcompile.targets.tflite.builder import Options, Quantization
from qcompile.targets.tflite.context import Context, Operand
from qcompile.targets.tflite.layout import Perm, identity
from qcompile.targets.tflite.ops.bias import bias_for
from qcompile.targets.tflite.ops.elementwise import spread
from qcompile.targets.tflite.unit import NONE, stored

_PACKED = frozenset({"int4", "int2"})
"""Types for which XNNPACK wants a scale a channel, be they all the same."""


def gemm(ctx: Context, node: ir.Node) -> None:
    """``alpha * A * B + beta * C``: FULLY_CONNECTED with the matrix as (N, K), scales along N.

    Factors other than 1 go into float constants. C is its bias where it is constant, one number a
    column; any other one is added behind, in floats. A computed matrix makes BATCH_MATMUL, without
    C and factors.
    """
    alpha = g.attribute_float(node, "alpha", 1.0)
    beta = g.attribute_float(node, "beta", 1.0)
    dynamic = qdq.dynamic_source(node.inputs[0]) is not None
    if (ctx.integer or dynamic) and (alpha != 1.0 or (beta != 1.0 and ctx.has(node, 2))):
        raise ctx.refuse(node, "integer products have no factors")
    if g.constant(stored(node.inputs[1])) is None:
        if ctx.has(node, 2) or alpha != 1.0:
            raise ctx.refuse(
                node, "its matrix is computed, which allows no third operand or factor"
            )
        _batch_matmul(ctx, node, (_turned(ctx, node, 0, "transA"), _turned(ctx, node, 1, "transB")))
        return
    w = ctx.read_weight(node)
    order = (0, 1) if g.attribute_int(node, "transB", 0) else (1, 0)
    transposed = g.attribute_int(node, "transA", 0)
    x = _turned(ctx, node, 0, "transA") if transposed else ctx.read_merged(node, 0)
    x, w = _rows_in_order(ctx, x, _matrix(w, order, alpha))
    x = ctx.stored_as(x, identity(2))
    if ctx.has(node, 2) and not _is_vector(ctx.read(node, 2)) and not (ctx.integer or dynamic):
        _product_and_sum(ctx, node, x, w, beta)
        return
    bias = _gemm_bias(ctx, node, beta) if ctx.has(node, 2) else None
    _fully_connected(ctx, x, w, bias, identity(2))


def matmul(ctx: Context, node: ir.Node) -> None:
    """A product with a constant matrix is FULLY_CONNECTED, the Add behind it its bias.

    The axes before the last may be stored in any order. Any other product is BATCH_MATMUL; a
    second operand whose last two axes are stored turned is taken so (``adjY``).
    """
    matrix = g.constant(stored(node.inputs[1]))
    if matrix is None or matrix.ndim != 2 or g.rank(node.inputs[0]) == 1:
        _batch_matmul(ctx, node, (ctx.read(node, 0), ctx.read(node, 1)))
        return
    w = _matrix(ctx.read_weight(node), (1, 0))
    x, w = _rows_in_order(ctx, ctx.read_merged(node, 0), w)
    if x.perm[-1] != x.rank - 1:
        x = ctx.stored_as(x, identity(x.rank))
    unit = ctx.unit
    bias = None if unit.bias is None else ctx.read_value(unit.bias)
    _fully_connected(ctx, x, w, bias, x.perm)


def _turned(ctx: Context, node: ir.Node, index: int, attribute: str) -> Operand:
    """A matrix that the node may ask to transpose: its axes counted the other way."""
    x = ctx.read(node, index)
    if not g.attribute_int(node, attribute, 0):
        return x
    if x.data is not None:
        return ctx.constant(x.name, x.data.T, x.quantization, dtype=x.dtype)
    return replace(x, shape=x.shape[::-1], perm=tuple(1 - axis for axis in x.perm))


def _matrix(w: Operand, order: Perm, factor: float = 1.0) -> Operand:
    """The constant matrix turned to (outputs, inputs), its scales along the outputs."""
    assert w.data is not None
    data, kind = np.transpose(w.data, order), w.dtype
    if factor != 1.0:
        data, kind = data.astype(np.float32) * np.float32(factor), "float32"
    q = w.quantization
    if q is not None and q.scale.size > 1:
        q = q.along(order.index(q.axis))
    elif q is not None and kind in _PACKED:
        q = Quantization.of(np.repeat(q.scale, data.shape[0]), np.zeros(data.shape[0]), 0)
    return Operand(w.index, data.shape, (0, 1), kind, q, np.ascontiguousarray(data), w.name)


def _rows_in_order(ctx: Context, x: Operand, w: Operand) -> tuple[Operand, Operand]:
    """An activation that is not laid out yet, taken as it lies, and the matrix for that order."""
    source = x.source
    if source is None:
        return x, w
    by_sample = (
        x.rank == 2 and source.rank > 1 and source.shape[0] == x.shape[0] and source.perm[0] == 0
    )
    if not by_sample:
        return ctx.settled(x), w
    assert w.data is not None
    numbers = np.arange(x.shape[1]).reshape(source.shape[1:])
    places = np.transpose(numbers, [axis - 1 for axis in source.perm[1:]]).reshape(-1)
    data = np.ascontiguousarray(w.data[:, places])
    turned = Operand(w.index, data.shape, w.perm, w.dtype, w.quantization, data, w.name)
    flat = replace(source, shape=source.stored_shape, perm=identity(source.rank))
    return ctx.reshaped(flat, x.shape, (0, 1)), turned


def _is_vector(c: Operand) -> bool:
    return c.data is not None and (not c.rank or c.size in (1, c.shape[-1]))


def _product_and_sum(ctx: Context, node: ir.Node, x: Operand, w: Operand, beta: float) -> None:
    """FULLY_CONNECTED, and an ADD of what is no bias."""
    y = ctx.define(ctx.unit.end, identity(2))
    product = ctx.temporary(y, f"{y.name}_product", y.shape, y.perm)
    fields = {"fusedActivationFunction": NONE, "keepNumDims": False}
    ctx.emit("FULLY_CONNECTED", [x, w, None], [product], Options("FullyConnectedOptions", fields))
    c = spread(ctx, ctx.read(node, 2), 2, identity(2))
    if beta != 1.0:
        factor = ctx.constant(f"{y.name}_beta", np.full((1,) * c.rank, beta, np.float32))
        scaled = ctx.temporary(y, f"{y.name}_scaled", c.shape, identity(c.rank))
        none = {"fusedActivationFunction": NONE}
        ctx.emit("MUL", [c, factor], [scaled], Options("MulOptions", none))
        c = scaled
    last = {"fusedActivationFunction": ctx.unit.activation}
    ctx.emit("ADD", [product, c], [y], Options("AddOptions", last))


def _gemm_bias(ctx: Context, node: ir.Node, beta: float) -> Operand:
    c = ctx.read(node, 2)
    if c.data is None or not _is_vector(c):
        raise ctx.refuse(node, "its third operand is not one constant a column")
    if beta != 1.0:
        c = ctx.constant(c.name, c.data * np.float32(beta))
    return c


def _fully_connected(
    ctx: Context, x: Operand, w: Operand, bias: Operand | None, perm: Perm
) -> None:
    fields = {
        "fusedActivationFunction": ctx.unit.activation,
        "keepNumDims": x.rank != 2,
        "asymmetricQuantizeInputs": not x.is_quantized and w.is_quantized,
    }
    if bias is not None:
        bias = bias_for(ctx, bias, x, w, w.shape[0])
    y = ctx.define(ctx.unit.end, perm)
    ctx.emit("FULLY_CONNECTED", [x, w, bias], [y], Options("FullyConnectedOptions", fields))


def _batch_matmul(ctx: Context, node: ir.Node, operands: tuple[Operand, Operand]) -> None:
    a, b = operands
    if ctx.unit.activation != NONE or ctx.unit.bias is not None:
        raise ctx.refuse(node, "BATCH_MATMUL has neither bias nor activation")
    for operand in operands:
        if operand.quantization is not None and operand.quantization.scale.size > 1:
            raise ctx.refuse(node, "BATCH_MATMUL with scales a channel gives wrong results")
    if a.dtype == "int16" and b.data is not None and b.dtype == "int8":
        b = ctx.constant(b.name, b.data.astype(np.int16), b.quantization)  # it takes two of a type
    out = ctx.shape(node)
    a = _as_matrices(ctx, a, first=True)
    turned = (*range(b.rank - 2), b.rank - 1, b.rank - 2) if b.rank > 1 else (0,)
    adjoint = b.rank > 1 and b.data is None and b.perm == turned
    if adjoint:
        b = replace(b, shape=b.stored_shape, perm=identity(b.rank))
    else:
        b = _as_matrices(ctx, b, first=False)
    y = ctx.define(node)
    flat = y
    ranks = (g.rank(node.inputs[0]), g.rank(node.inputs[1]))
    if 1 in ranks:
        shape = list(out)
        if ranks[1] == 1:
            shape.append(1)
        if ranks[0] == 1:
            shape.insert(len(shape) - 1, 1)
        flat = ctx.temporary(y, f"{y.name}_matrix", shape, identity(len(shape)))
    fields = {"adjX": False, "adjY": adjoint}
    ctx.emit("BATCH_MATMUL", [a, b], [flat], Options("BatchMatMulOptions", fields))
    if flat is not y:
        ctx.reshape_into(flat, y)


def _as_matrices(ctx: Context, x: Operand, *, first: bool) -> Operand:
    """An operand of rank 2 or more as it is in ONNX; a vector as a row or a column."""
    x = ctx.stored_as(x, identity(x.rank))
    if x.rank > 1:
        return x
    shape = (1, x.shape[0]) if first else (x.shape[0], 1)
    if x.data is not None:
        return ctx.constant(x.name, x.data.reshape(shape), x.quantization, dtype=x.dtype)
    return ctx.reshaped(x, shape, (0, 1))
