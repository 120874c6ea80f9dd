"""Pooling: MAX_POOL_2D and AVERAGE_POOL_2D; over a whole picture, MEAN and REDUCE_MAX."""

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import limits, quantize
from qcompile.targets.tflite.builder import Options, Quantization
from qcompile.targets.tflite.context import Context, Operand
from qcompile.targets.tflite.layout import channels_last
from qcompile.targets.tflite.ops.padding import (
    SAME,
    VALID,
    Window,
    is_same,
    pad,
    padded,
    window_of,
)
from qcompile.targets.tflite.ops.reduce import reduce_over
from qcompile.targets.tflite.qdq import ORIGIN_KEY


def global_average_pool(ctx: Context, node: ir.Node) -> None:
    """MEAN over the spatial axes: AVERAGE_POOL_2D takes longer and leaves XNNPACK."""
    x = ctx.read(node, 0)
    reduce_over(ctx, node, "MEAN", x, range(2, x.rank), keep=True)


def global_max_pool(ctx: Context, node: ir.Node) -> None:
    """REDUCE_MAX over the spatial axes."""
    x = ctx.read(node, 0)
    reduce_over(ctx, node, "REDUCE_MAX", x, range(2, x.rank), keep=True, same=True)


def max_pool(ctx: Context, node: ir.Node) -> None:
    """MAX_POOL_2D; padding that SAME cannot say is filled with the lowest number."""
    x, window = _windows(ctx, node)
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        raise ctx.refuse(node, "MAX_POOL_2D does not say where the largest elements are")
    params = ctx.output_parameters(node)
    if params is not None:
        x = ctx.requantized(x, params)
    x, padding = padded(ctx, x, window, lowest=True)
    _pool(ctx, node, "MAX_POOL_2D", x, window, padding)


def average_pool(ctx: Context, node: ir.Node) -> None:
    """AVERAGE_POOL_2D, which counts no padding of its own and keeps its parameters.

    1. One window over the whole picture is MEAN, unless it was read from a file that had it so.
    2. Without padding, or with SAME padding that is not counted: as it is.
    3. Padding that is counted in full: a PAD with real zeros.
    4. Any other: as 3, then MUL by what the count of each window is off, in int16.
    """
    x, window = _windows(ctx, node)
    counted = bool(g.attribute_int(node, "count_include_pad", 0))
    is_whole = window.kernel == x.shape[2:] and set(window.out) == {1} and not window.is_padded
    if is_whole and node.metadata_props.get(ORIGIN_KEY) != "AVERAGE_POOL_2D":
        reduce_over(ctx, node, "MEAN", x, range(2, x.rank), keep=True)
        return
    params = ctx.output_parameters(node)
    if params is not None:
        x = ctx.requantized(x, params)
    if not window.is_padded:
        _pool(ctx, node, "AVERAGE_POOL_2D", x, window, VALID)
        return
    if not counted and is_same(window, x.shape[2:]):
        _pool(ctx, node, "AVERAGE_POOL_2D", x, window, SAME)
        return
    factors = _factors(node, window, x.shape[2:], counted=counted)
    pads = [(0, 0), (0, 0), *zip(window.begin, window.end, strict=True)]
    whole = pad(ctx, x, pads)
    if np.all(factors == 1.0):
        _pool(ctx, node, "AVERAGE_POOL_2D", whole, window, VALID)
    else:
        _scaled_pool(ctx, node, whole, window, factors)


def _windows(ctx: Context, node: ir.Node) -> tuple[Operand, Window]:
    kernel = g.attribute_ints(node, "kernel_shape")
    if len(kernel) not in (1, 2):
        raise ctx.refuse(node, f"it has {len(kernel)} spatial dimensions, not 1 or 2")
    if any(d != 1 for d in g.attribute_ints(node, "dilations", (1, 1))):
        raise ctx.refuse(node, "pools have no dilation")
    x = ctx.read(node, 0, channels_last(len(kernel) + 2))
    return x, window_of(node, x.shape[2:], ctx.shape(node)[2:], kernel)


def _pool(ctx: Context, node: ir.Node, op: str, x: Operand, window: Window, padding: int) -> None:
    _emit(ctx, op, x, ctx.define(node, channels_last(x.rank)), window, padding)


def _emit(ctx: Context, op: str, x: Operand, y: Operand, window: Window, padding: int) -> None:
    kernel, strides = ((1, *v)[-2:] for v in (window.kernel, window.strides))
    fields = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "filterHeight": kernel[0],
        "filterWidth": kernel[1],
        "fusedActivationFunction": 0,
    }
    nhwc = channels_last(4)
    flat = y
    if x.rank == 3:  # a signal is a picture of one line
        x = ctx.reshaped(x, (*x.shape[:2], 1, x.shape[2]), nhwc)
        flat = ctx.temporary(y, f"{y.name}_picture", (*y.shape[:2], 1, y.shape[2]), nhwc)
    ctx.emit(op, [x], [flat], Options("Pool2DOptions", fields))
    if flat is not y:
        ctx.reshape_into(flat, y)


def _factors(node: ir.Node, window: Window, size: tuple[int, ...], *, counted: bool) -> np.ndarray:
    """Elements in a window over those that ONNX counts, (1, 1, out...).

    Padding counts if the node says so, but never what ``ceil_mode`` puts behind it.
    """
    n = len(size)
    told = g.attribute_ints(node, "pads", (0,) * (2 * n))
    explicit = g.attribute_str(node, "auto_pad", "NOTSET") == "NOTSET"
    factors = np.ones((), np.float64)
    for i in range(n):
        start = np.arange(window.out[i]) * window.strides[i] - window.begin[i]
        low, high = 0, size[i]
        if counted:
            low, high = -window.begin[i], size[i] + (told[n + i] if explicit else window.end[i])
        inside = np.minimum(start + window.kernel[i], high) - np.maximum(start, low)
        factors = np.multiply.outer(factors, window.kernel[i] / inside)
    return factors.reshape((1, 1, *window.out)).astype(np.float32)


def _scaled_pool(
    ctx: Context, node: ir.Node, x: Operand, window: Window, factors: np.ndarray
) -> None:
    """The mean over all of each window, times a constant a window.

    Between the two, 8 bits would lose what the constant enlarges: int16 operators do it.
    """
    order = channels_last(x.rank)
    y = ctx.define(node, order)
    fine = _fine(ctx, x)
    mean = ctx.temporary(fine, f"{y.name}_mean", y.shape, order)
    _emit(ctx, "AVERAGE_POOL_2D", fine, mean, window, VALID)
    scaled = y if fine is x else ctx.temporary(fine, f"{y.name}_scaled", y.shape, order)
    options = Options("MulOptions", {"fusedActivationFunction": 0})
    ctx.emit("MUL", [mean, _constant(ctx, mean, factors)], [scaled], options)
    if scaled is not y:
        ctx.emit("QUANTIZE", [scaled], [y], Options("QuantizeOptions", {}))


def _fine(ctx: Context, x: Operand) -> Operand:
    """An int8 operand in int16, a step of which is 1/128 of a step of int8."""
    if x.quantization is None or x.dtype != "int8":
        return x
    scale = x.quantization.scale / np.float32(128)
    return ctx.requantized(x, Quantization.of(scale, np.zeros(())), "int16")


def _constant(ctx: Context, like: Operand, factors: np.ndarray) -> Operand:
    name, order = f"{like.name}_factors", channels_last(like.rank)
    if not like.is_quantized:
        return ctx.constant(name, factors, perm=order)
    scale = np.asarray(factors.max() / limits(like.dtype)[1], np.float32)
    zero = np.zeros((), np.int64)
    integers = quantize(factors, scale, zero, like.dtype)
    return ctx.constant(name, integers, Quantization.of(scale, zero), perm=order, dtype=like.dtype)
