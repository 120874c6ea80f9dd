"""Rows of a table that is stored in integers."""

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.tflite import qdq
from qcompile.targets.tflite.builder import Options, Quantization
from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.layout import identity
from qcompile.targets.tflite.operand import Operand
from qcompile.targets.tflite.ops.floats import options
from qcompile.targets.tflite.reading import BITS
from qcompile.targets.tflite.schema import tensor_type
from qcompile.targets.tflite.unit import NONE

_INTEGERS = frozenset({ir.DataType.INT8, ir.DataType.INT16})


def dequantizer(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear behind a Gather from a constant of integers; None for other Gathers."""
    table = node.inputs[0]
    if table is None or table.dtype not in _INTEGERS or g.constant(table) is None:
        return None
    reader = g.only_consumer(node.outputs[0])
    return reader if reader is not None and reader.op_type == "DequantizeLinear" else None


def read_rows(ctx: Context, node: ir.Node, behind: ir.Node) -> None:
    """Gather of integers, then DequantizeLinear: GATHER; with a scale a column DEQUANTIZE, MUL.

    With one scale for all, the rows are a quantized value as any other. Scales along the last axis
    are a product with a constant vector: ``s_c (q - z)``, with the DEQUANTIZE to ``q - z`` exact.
    A DEQUANTIZE with all the scales gives the same and takes five times as long (LiteRT 2.3: it
    leaves XNNPACK, and its loop does not vectorize).
    """
    params, _ = qdq.parameters(behind)
    by_column, shape = params.scale.size > 1, ctx.shape(node)
    if by_column and params.axis % len(shape) != len(shape) - 1:
        raise ctx.refuse(node, "the scales of its table do not follow the last axis")
    if by_column and len(set(params.zero_point.tolist())) > 1:
        raise ctx.refuse(node, "its table has several zero points")
    one = Quantization.of(np.ones(1), params.zero_point[:1]) if by_column else params
    table = _table(ctx, node, one)
    axis = g.attribute_int(node, "axis", 0) % table.rank
    indices = indices_of(ctx, node, table.shape[axis])
    rows = ctx.tensor(node.outputs[0].name or "", shape, table.dtype, one)
    gather = Options("GatherOptions", {"axis": axis, "batchDims": 0})
    ctx.emit("GATHER", [table, indices], [rows], gather)
    if by_column:
        scale = ctx.constant(f"{table.name}_scale", params.scale)
        made = ctx.tensor(behind.outputs[0].name or "", shape, "float32", None)
        ctx.emit("MUL", [ctx.real(rows), scale], [made], options("MUL", NONE))
        rows = made
    ctx.hold(node.outputs[0], rows)


def look_up(ctx: Context, node: ir.Node) -> None:
    """Gather of rows of a stored matrix (``qdq.is_stored``): EMBEDDING_LOOKUP, a scale a row.

    It takes int32 indices of rank 1, and rows of whole bytes.
    """
    value = node.inputs[0]
    assert value is not None
    table, shape = ctx.held_stored(value), ctx.shape(node)
    q = table.quantization
    if q is None or q.axis != 0 or g.attribute_int(node, "axis", 0) != 0:
        raise ctx.refuse(node, "the scales of its table do not follow its rows")
    if table.shape[1] * BITS[table.dtype] % 8:
        raise ctx.refuse(node, f"its rows of {table.shape[1]} numbers are no whole bytes")
    indices = indices_of(ctx, node, table.shape[0])
    flat = (indices.size,)
    if indices.data is not None:
        indices = ctx.constant(indices.name, indices.data.reshape(flat))
    elif indices.rank != 1:
        indices = ctx.reshaped(indices, flat, (0,))
    if indices.dtype != "int32":
        kinds = {"inDataType": tensor_type(indices.dtype), "outDataType": tensor_type("int32")}
        narrow = ctx.tensor(f"{indices.name}_int32", flat, "int32", None)
        ctx.emit("CAST", [indices], [narrow], Options("CastOptions", kinds))
        indices = narrow
    y = ctx.define(node, identity(len(shape)))
    rows = y
    if len(shape) != 2:
        rows = ctx.temporary(y, f"{y.name}_rows", (*flat, shape[-1]), (0, 1))
    ctx.emit("EMBEDDING_LOOKUP", [indices, table], [rows])
    if rows is not y:
        ctx.reshape_into(rows, y)


def _table(ctx: Context, node: ir.Node, params: Quantization) -> Operand:
    """The table with its parameters; the same tensor for all who look up rows in it."""
    value = node.inputs[0]
    assert value is not None
    table = ctx.held(value)
    if not params.same_as(table.quantization):
        assert table.data is not None
        table = ctx.constant(table.name, table.data, params)
        ctx.hold(value, table)
    return table


def indices_of(ctx: Context, node: ir.Node, length: int) -> Operand:
    """Which rows; constant ones may count from the back, for GATHER they may not."""
    indices = ctx.read(node, 1, identity(g.rank(node.inputs[1]) or 0))
    if indices.data is None:
        return indices
    counted = np.where(indices.data < 0, indices.data + length, indices.data)
    return ctx.constant(indices.name, counted.astype(np.int32))
