"""Powers and quotients: identities by MUL where they are exact, a table, or floats."""

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.tflite import qdq
from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.context import Context, Operand
from qcompile.targets.tflite.ops.elementwise import common_perm, spread
from qcompile.targets.tflite.ops.floats import options
from qcompile.targets.tflite.ops.forms import (
    in_floats,
    in_integers,
    known,
    takes_bytes,
    times,
    write_bounded,
)
from qcompile.targets.tflite.ops.tabled import formula, table, tabulated
from qcompile.targets.tflite.schema import tensor_type


def pow_(ctx: Context, node: ir.Node) -> None:
    """Powers.

    1. ``x ** 2`` is MUL of x with itself;
    2. another constant exponent: a table in int8;
    3. else POW in floats, to which an integer exponent is converted.
    """
    array = known(ctx, node, 1)
    exponent = float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None
    if exponent == 2.0 and (ctx.integer or _is_enclosed(node)):
        in_integers(ctx)
        _square(ctx, node)
    elif exponent == 2.0:
        _square(ctx, node)
    elif exponent is not None:
        tabulated(
            ctx,
            node,
            lambda x: np.power(x, exponent),
            lambda: formula(ctx, node, "POW", None, exponent),
        )
    else:
        _in_pairs(ctx, node, "POW")


def div(ctx: Context, node: ir.Node) -> None:
    """Division.

    1. By one constant number, in integers: MUL by its reciprocal, which int8 holds exactly (1 step
       of a scale of ``1 / d``);
    2. of one constant number: the reciprocal's table;
    3. else DIV in floats: the integer DIV gives full-scale results near zero, and a table of
       reciprocals in int8 is wrong by several steps where the divisors differ much.
    """
    over, under = known(ctx, node, 0), known(ctx, node, 1)
    divisor = _single(under)
    if divisor and _is_enclosed(node) and _keeps_shape(ctx, node, 0):
        in_integers(ctx)
        times(ctx, node, 1.0 / divisor)
        return
    top = _single(over)
    if top is not None and takes_bytes(node, 1) and _keeps_shape(ctx, node, 1):
        table(ctx, node, lambda x: top / x, 1)
        return
    _in_pairs(ctx, node, "DIV")


def _in_pairs(ctx: Context, node: ir.Node, op: str) -> None:
    """A float operator of two operands that broadcast."""
    if ctx.integer or _is_enclosed(node):
        in_floats(ctx, node, f"the integer {op} is wrong or missing")
    shape = ctx.shape(node)
    operands = [ctx.read(node, 0), _exponent(ctx, node) if op == "POW" else ctx.read(node, 1)]
    perm = common_perm(ctx, operands, shape)
    inputs = [spread(ctx, x, len(shape), perm) for x in operands]
    write_bounded(ctx, node, op, inputs, perm)


def _exponent(ctx: Context, node: ir.Node) -> Operand:
    """The exponents in the type of the base: ONNX lets the two differ, POW does not."""
    base, x = ctx.read(node, 0), ctx.read(node, 1)
    if base.dtype == x.dtype and base.dtype in {"float32", "int32"}:
        return x
    if base.dtype != "float32" or (x.data is None and x.dtype not in {"int32", "int64"}):
        raise ctx.refuse(node, f"POW has no {base.dtype} to the power of {x.dtype}")
    if x.data is not None:
        return ctx.constant(x.name, x.data.astype(np.float32), perm=x.perm)
    made = ctx.tensor(f"{x.name}_float", x.shape, "float32", None, x.perm)
    kinds = {"inDataType": tensor_type(x.dtype), "outDataType": tensor_type("float32")}
    ctx.emit("CAST", [x], [made], Options("CastOptions", kinds))
    return made


def _square(ctx: Context, node: ir.Node) -> None:
    x = ctx.read(node, 0)
    ctx.emit("MUL", [x, x], [ctx.define(node, x.perm)], options("MUL"))


def _is_enclosed(node: ir.Node) -> bool:
    """Whether the first input is dequantized and the output quantized."""
    source = node.inputs[0]
    enclosed = source is not None and qdq.is_dequantized(source)
    return enclosed and qdq.quantizer(node.outputs[0]) is not None


def _single(array: np.ndarray | None) -> float | None:
    """The number of which a constant consists alone."""
    if array is None or array.size == 0 or np.ptp(array) != 0:
        return None
    return float(array.reshape(-1)[0])


def _keeps_shape(ctx: Context, node: ir.Node, index: int) -> bool:
    """Whether the output has the shape of an input."""
    return ctx.shape(node) == g.static_shape(node.inputs[index])
