"""Comparing and choosing: Greater and its kin, logic, Where, ArgMax; and Cast between types."""

from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.layout import stored_axis
from qcompile.targets.tflite.operand import Operand
from qcompile.targets.tflite.ops.elementwise import common_perm, spread
from qcompile.targets.tflite.ops.forms import converted, reshape_into, without_axis
from qcompile.targets.tflite.schema import tensor_type

_OPTIONS: Final = {
    "GREATER": "GreaterOptions",
    "GREATER_EQUAL": "GreaterEqualOptions",
    "LESS": "LessOptions",
    "LESS_EQUAL": "LessEqualOptions",
    "EQUAL": "EqualOptions",
    "LOGICAL_AND": "LogicalAndOptions",
    "LOGICAL_OR": "LogicalOrOptions",
}
_CASTABLE: Final = frozenset({"bool", "int32", "int64", "float32"})


def greater(ctx: Context, node: ir.Node) -> None:
    """GREATER."""
    _comparison(ctx, node, "GREATER")


def greater_or_equal(ctx: Context, node: ir.Node) -> None:
    """GREATER_EQUAL."""
    _comparison(ctx, node, "GREATER_EQUAL")


def less(ctx: Context, node: ir.Node) -> None:
    """LESS."""
    _comparison(ctx, node, "LESS")


def less_or_equal(ctx: Context, node: ir.Node) -> None:
    """LESS_EQUAL."""
    _comparison(ctx, node, "LESS_EQUAL")


def equal(ctx: Context, node: ir.Node) -> None:
    """EQUAL."""
    _comparison(ctx, node, "EQUAL")


def and_(ctx: Context, node: ir.Node) -> None:
    """LOGICAL_AND."""
    _pair(ctx, node, "LOGICAL_AND", [ctx.read(node, 0), ctx.read(node, 1)])


def or_(ctx: Context, node: ir.Node) -> None:
    """LOGICAL_OR."""
    _pair(ctx, node, "LOGICAL_OR", [ctx.read(node, 0), ctx.read(node, 1)])


def not_(ctx: Context, node: ir.Node) -> None:
    """LOGICAL_NOT."""
    x = ctx.read(node, 0)
    ctx.emit("LOGICAL_NOT", [x], [ctx.define(node, x.perm)], Options("LogicalNotOptions", {}))


def where(ctx: Context, node: ir.Node) -> None:
    """SELECT_V2, whose kernel copies: both sides get the output's parameters."""
    shape = ctx.shape(node)
    condition, *sides = (ctx.read(node, i) for i in range(3))
    perm = common_perm(ctx, [*sides, condition], shape)
    y = ctx.define(node, perm)
    operands = [condition, *(converted(ctx, side, y) for side in sides)]
    inputs = [spread(ctx, x, len(shape), perm) for x in operands]
    ctx.emit("SELECT_V2", inputs, [y], Options("SelectV2Options", {}))


def arg_max(ctx: Context, node: ir.Node) -> None:
    """ARG_MAX: the largest integer stands for the largest number."""
    _extreme(ctx, node, "ARG_MAX", "ArgMaxOptions")


def arg_min(ctx: Context, node: ir.Node) -> None:
    """ARG_MIN, as ArgMax."""
    _extreme(ctx, node, "ARG_MIN", "ArgMinOptions")


def cast(ctx: Context, node: ir.Node) -> None:
    """CAST between floats, int32, int64 and bool; nothing where the types are equal.

    The kernel casts raw integers, so a quantized value is dequantized first; not so where the node
    reads the integers themselves, as a table's index does.
    """
    value, source = node.outputs[0], node.inputs[0]
    wanted = value.dtype.numpy().name if value.dtype is not None else ""
    if source is not None and source.dtype == ir.DataType.INT8 and wanted in _CASTABLE:
        _cast(ctx, node, ctx.settled(ctx.held(source)), wanted)
        return
    x = ctx.real(ctx.read(node, 0))
    if wanted == x.dtype and not ctx.integer:
        ctx.alias(node, x)
        return
    ctx.integer = False
    unknown = {wanted, x.dtype} - _CASTABLE
    if unknown:
        raise ctx.refuse(node, f"its kernels have no {', '.join(sorted(unknown))}")
    if wanted == x.dtype:
        ctx.alias(node, x)
        return
    _cast(ctx, node, x, wanted)


def _cast(ctx: Context, node: ir.Node, x: Operand, wanted: str) -> None:
    kinds = {"inDataType": tensor_type(x.dtype), "outDataType": tensor_type(wanted)}
    ctx.emit("CAST", [x], [ctx.define(node, x.perm)], Options("CastOptions", kinds))


def _comparison(ctx: Context, node: ir.Node, op: str) -> None:
    """Compare as the QDQ graph does.

    The int8 kernels round both sides to a 256th of a real 1, whatever the scales, so:

    1. quantized operands with equal parameters are compared as raw integers in int32, except for
       scales from 1/256 to 1, at which the kernel's rounding keeps neighbours apart;
    2. with other parameters they are compared as floats, which is right but where two real values
       are equal up to the last bit of a float32.
    """
    pair = [ctx.read(node, 0), ctx.read(node, 1)]
    if pair[0].is_quantized:
        a, b = pair[0].quantization, pair[1].quantization
        if a is None or not a.same_as(b) or pair[0].dtype != pair[1].dtype:
            pair = [ctx.real(x) for x in pair]
        elif pair[0].dtype != "int8" or not 2.0**-8 <= float(a.scale[0]) < 1.0:
            pair = [_raw(ctx, x) for x in pair]
    _pair(ctx, node, op, pair)


def _raw(ctx: Context, x: Operand) -> Operand:
    """The integers of a quantized value as int32."""
    if x.data is not None:
        return ctx.constant(x.name, x.data.astype(np.int32), perm=x.perm)
    if x.dtype != "int8":
        return ctx.real(x)
    made = ctx.tensor(f"{x.name}_raw", x.shape, "int32", None, x.perm)
    kinds = {"inDataType": tensor_type("int8"), "outDataType": tensor_type("int32")}
    ctx.emit("CAST", [x], [made], Options("CastOptions", kinds))
    return made


def _pair(ctx: Context, node: ir.Node, op: str, operands: list[Operand]) -> None:
    shape = ctx.shape(node)
    perm = common_perm(ctx, operands, shape)
    inputs = [spread(ctx, x, len(shape), perm) for x in operands]
    ctx.emit(op, inputs, [ctx.define(node, perm)], Options(_OPTIONS[op], {}))


def top_k(ctx: Context, node: ir.Node) -> None:
    """TOPK_V2 of floats, along the axis that is stored last; its int32 indices are cast.

    The kernels give the largest, in order, and of equal ones those in front, as ONNX does. Where
    its values are quantized, a QUANTIZE follows.
    """
    count = g.scalar(node.inputs[1])
    if count is None:
        raise ctx.refuse(node, "how many it gives is computed as the model runs")
    if not g.attribute_int(node, "largest", 1):
        raise ctx.refuse(node, "TFLite gives the largest, not the smallest")
    x = ctx.real(ctx.read(node, 0))
    axis = g.attribute_int(node, "axis", -1) % x.rank
    perm = (*(a for a in x.perm if a != axis), axis)
    values = ctx.define(node, perm)
    largest = values
    if values.is_quantized:
        largest = ctx.tensor(f"{values.name}_float", values.shape, "float32", None, perm)
    found = ctx.tensor(f"{values.name}_places", values.shape, "int32", None, perm)
    most = ctx.constant("k", np.asarray(int(count), np.int32))
    options = Options("TopKV2Options", {})
    ctx.emit("TOPK_V2", [ctx.stored_as(x, perm), most], [largest, found], options)
    if values.is_quantized:
        ctx.emit("QUANTIZE", [largest], [values], Options("QuantizeOptions", {}))
    if node.outputs[1].uses() or node.outputs[1].is_graph_output():
        places = ctx.define(node, perm, index=1, dtype="int64")
        kinds = {"inDataType": tensor_type("int32"), "outDataType": tensor_type("int64")}
        ctx.emit("CAST", [found], [places], Options("CastOptions", kinds))


def _extreme(ctx: Context, node: ir.Node, op: str, table: str) -> None:
    if g.attribute_int(node, "select_last_index", 0):
        raise ctx.refuse(node, "TFLite gives the first of equal ones, not the last")
    x = ctx.read(node, 0)
    if x.dtype == "int16":
        x = ctx.real(x)  # its kernels compare bytes and floats
    axis = g.attribute_int(node, "axis", 0) % x.rank
    along = ctx.constant("axis", np.asarray(stored_axis(x.perm, axis), np.int32))
    options = Options(table, {"outputType": tensor_type("int64")})
    if not g.attribute_int(node, "keepdims", 1):
        y = ctx.define(node, without_axis(x.perm, axis))
        ctx.emit(op, [x, along], [y], options)
        return
    y = ctx.define(node, x.perm)
    shape = [size for a, size in enumerate(x.shape) if a != axis]
    found = ctx.tensor(f"{y.name}_found", shape, "int64", None, without_axis(x.perm, axis))
    ctx.emit(op, [x, along], [found], options)
    reshape_into(ctx, found, y)
