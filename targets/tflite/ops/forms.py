"""The form in which an op is written: integers or floats, with which parameters and layout."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.notes import Note
from qcompile.core.numerics.affine import dequantize, limits, quantize
from qcompile.targets.tflite import qdq
from qcompile.targets.tflite.builder import Options, Quantization
from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.layout import Perm, inverse
from qcompile.targets.tflite.operand import Operand
from qcompile.targets.tflite.ops.floats import Formula, options
from qcompile.targets.tflite.unit import stored

QUANTIZE = Options("QuantizeOptions", {})


def takes_bytes(node: ir.Node, index: int = 0) -> bool:
    """Whether a node is an integer op from int8 to int8, the only type that many kernels take.

    A node counts as one here even where the target has no rule for it: its input ``index`` comes
    out of a DequantizeLinear and its output goes into a QuantizeLinear.
    """
    source, quantizer = node.inputs[index], qdq.quantizer(node.outputs[0])
    if source is None or quantizer is None or not qdq.is_dequantized(source):
        return False
    producer = source.producer()
    assert producer is not None
    return all(qdq.parameters(end)[1] == "int8" for end in (producer, quantizer))


def in_integers(ctx: Context) -> None:
    """Write the current node as an integer op although the target has no rule for it."""
    ctx.integer = True


def in_floats(ctx: Context, node: ir.Node, why: str) -> None:
    """Write the current node as a float op; a note says so where it is amid integers."""
    around = [v for v in (*node.inputs, *node.outputs) if v is not None]
    if any(qdq.is_dequantized(v) or qdq.quantizer(v) is not None for v in around):
        ctx.notes.append(
            Note("info", f"{node.op_type} is computed in float: {why}", node.name or None)
        )
    ctx.integer = False


def converted(ctx: Context, operand: Operand, like: Operand) -> Operand:
    """The same value with the type and parameters of ``like``.

    An op that only moves elements reads this: its kernel looks at no scale. A constant is
    converted here; for a computed value QUANTIZE is added where it is needed.
    """
    q = like.quantization
    if q is None:
        return ctx.real(operand)
    same = q.same_as(operand.quantization) if operand.quantization is not None else False
    if same and operand.dtype == like.dtype:
        return operand
    if operand.data is not None:
        return constant(ctx, operand.name, operand.real, q, like.dtype, operand.perm)
    if operand.quantization is None:
        made = ctx.tensor(f"{operand.name}_quantized", operand.shape, like.dtype, q, operand.perm)
        ctx.emit("QUANTIZE", [operand], [made], QUANTIZE)
        return made
    return ctx.requantized(operand, q, like.dtype)


def known(ctx: Context, node: ir.Node, index: int) -> np.ndarray | None:
    """The values of a constant input, real ones where it is quantized; None if it is computed."""
    value = node.inputs[index] if len(node.inputs) > index else None
    array = g.constant(value)
    if value is None or array is not None or g.constant(stored(value)) is None:
        return array
    return ctx.held(value).real


def constant(
    ctx: Context,
    name: str,
    real: np.ndarray,
    quantization: Quantization,
    dtype: str,
    perm: Perm | None = None,
) -> Operand:
    """Real values as a constant with the given per-tensor parameters."""
    q = quantization
    integers = quantize(real, q.scale[0], q.zero_point[0], dtype)
    return ctx.constant(name, integers, quantization, perm=perm, dtype=dtype)


def emit_as(
    ctx: Context,
    node: ir.Node,
    op: str,
    inputs: Sequence[Operand | None],
    perm: Perm,
    quantization: Quantization | None = None,
    options: Options | None = None,
) -> None:
    """Write the operator that makes ``node``'s output, with the parameters that its kernel gives.

    ``quantization`` holds in an integer op; where the plan wants others, a QUANTIZE follows.
    """
    wanted = ctx.define(node, perm)
    if (
        quantization is None
        or wanted.quantization is None
        or quantization.same_as(wanted.quantization)
    ):
        ctx.emit(op, inputs, [wanted], options)
        return
    made = ctx.tensor(f"{wanted.name}_{op}", wanted.shape, wanted.dtype, quantization, perm)
    ctx.emit(op, inputs, [made], options)
    ctx.emit("QUANTIZE", [made], [wanted], QUANTIZE)


def reshape_into(ctx: Context, x: Operand, y: Operand) -> None:
    """RESHAPE the stored elements of ``x`` to the stored shape of ``y``.

    The shape of a scalar has no elements, which a file cannot tell from one that is computed:
    SQUEEZE makes it.
    """
    if y.rank == 0:
        ctx.emit("SQUEEZE", [x], [y], Options("SqueezeOptions", {"squeezeDims": ()}))
        return
    target = np.asarray(y.stored_shape, np.int32)
    options = Options("ReshapeOptions", {"newShape": target})
    ctx.emit("RESHAPE", [x, ctx.constant("shape", target)], [y], options)


def without_axis(perm: Perm, axis: int) -> Perm:
    """The layout of a value that loses a logical axis."""
    return tuple(a - (a > axis) for a in perm if a != axis)


def last_stored(perm: Perm, axis: int) -> Perm:
    """A layout like ``perm`` in which a logical axis is the innermost."""
    return (*(a for a in perm if a != axis), axis)


def transposed(perm: Perm, order: Sequence[int]) -> Perm:
    """The layout of ``Transpose(x, order)`` in the tensor that holds x by ``perm``."""
    places = inverse(tuple(order))
    return tuple(places[axis] for axis in perm)


def plain(
    ctx: Context,
    node: ir.Node,
    op: str,
    told: Options | None = None,
    *,
    unbounded: bool = False,
) -> None:
    """One operator whose kernel keeps to the parameters it is given.

    ``unbounded`` says that it may give infinity, or close to it (``write_bounded``).
    """
    x = ctx.read(node, 0)
    if unbounded:
        write_bounded(ctx, node, op, [x], x.perm)
    else:
        ctx.emit(op, [x], [ctx.define(node, x.perm)], told or options(op))


def write_bounded(
    ctx: Context, node: ir.Node, op: str, inputs: Sequence[Operand], perm: Perm
) -> None:
    """An operator whose float result may be infinite, or far beyond what the quantizer takes.

    QUANTIZE casts to int32 before it saturates: infinity becomes the lowest integer. So a float
    result that is quantized is clamped to the quantizer's range first.
    """
    quantizer = qdq.quantizer(node.outputs[0])
    if ctx.integer or quantizer is None:
        ctx.emit(op, inputs, [ctx.define(node, perm)], options(op))
        return
    q, dtype = qdq.parameters(quantizer)
    ends = np.asarray(limits(dtype), np.int32)
    shape = ctx.shape(node)
    f = Formula(ctx, node, perm)
    result = ctx.tensor(f"{node.outputs[0].name}_{op.lower()}", shape, "float32", None, perm)
    ctx.emit(op, inputs, [result], options(op))
    low, high = dequantize(ends, q.scale[0], q.zero_point[0])
    f.result("MINIMUM", f.binary("MAXIMUM", result, float(low)), float(high))


def times(ctx: Context, node: ir.Node, factor: float) -> None:
    """MUL by one number, which is exact: 1 step of a scale of ``|factor|``."""
    x = ctx.read(node, 0)
    y = ctx.define(node, x.perm)
    q = Quantization.of(np.float32(abs(factor)), np.zeros(()))
    step = np.full((1,) * x.rank, np.sign(factor), x.dtype)
    inputs = [x, ctx.constant(f"{y.name}_factor", step, q, dtype=x.dtype)]
    ctx.emit("MUL", inputs, [y], options("MUL"))
