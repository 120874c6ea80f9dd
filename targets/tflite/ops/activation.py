"""Relu and Clip that no other operator does."""

import numpy as np
import onnx_ir as ir

from qcompile.core.numerics.affine import limits, quantize
from qcompile.targets.tflite.builder import Options, Quantization
from qcompile.targets.tflite.context import Context, Operand
from qcompile.targets.tflite.ops.elementwise import spread
from qcompile.targets.tflite.ops.forms import in_floats
from qcompile.targets.tflite.unit import CLAMPS, RELU, RELU6, RELU_N1_TO_1, bounds

_OPERATORS = {RELU: "RELU", RELU6: "RELU6", RELU_N1_TO_1: "RELU_N1_TO_1"}


def clamp(ctx: Context, node: ir.Node) -> None:
    """A clamp that stands alone.

    1. In floats: RELU, RELU6, RELU_N1_TO_1, else MAXIMUM and MINIMUM with the bounds.
    2. In 8 bits from 0 upwards: QUANTIZE to parameters whose range is ``[0, upper]``, and on to
       the output's where those are others. It saturates at both ends; a RELU node would take a
       hundred times as long.
    3. With bounds that are computed: MAXIMUM and MINIMUM in floats.
    4. In int16, whose zero point is in the middle, and with another lower bound: MAXIMUM and
       MINIMUM on the output's parameters, exact since the quantizer never falls.
    """
    limit = bounds(node)
    if limit is None:
        _computed(ctx, node)
        return
    x = ctx.read(node, 0)
    y = ctx.define(node, x.perm)
    if y.quantization is None:
        _float(ctx, x, y, limit)
    elif limit[0] == 0.0 and y.dtype != "int16":
        _saturate(ctx, x, y, limit[1])
    else:
        _between(ctx, x, y, limit)


def _computed(ctx: Context, node: ir.Node) -> None:
    in_floats(ctx, node, "its bounds are computed as the model runs")
    x = ctx.read(node, 0)
    y = ctx.define(node, x.perm)
    given = [i for i in (1, 2) if ctx.has(node, i)]
    for index in given:
        bound = spread(ctx, ctx.read(node, index), y.rank, y.perm)
        made = y
        if index != given[-1]:
            made = ctx.temporary(y, f"{y.name}_low", y.shape, y.perm)
        ctx.emit("MAXIMUM" if index == 1 else "MINIMUM", [x, bound], [made], _OPTIONS)
        x = made


def _float(ctx: Context, x: Operand, y: Operand, limit: tuple[float, float]) -> None:
    if limit in CLAMPS:
        ctx.emit(_OPERATORS[CLAMPS[limit]], [x], [y])
    else:
        low, high = (np.asarray(bound, np.float32).reshape((1,) * y.rank) for bound in limit)
        _max_min(ctx, x, y, low if np.isfinite(low) else None, high if np.isfinite(high) else None)


def _between(ctx: Context, x: Operand, y: Operand, limit: tuple[float, float]) -> None:
    assert y.quantization is not None
    q = y.quantization
    lowest, highest = limits(y.dtype)
    low, high = (
        quantize(np.full((1,) * y.rank, bound), q.scale[0], q.zero_point[0], y.dtype)
        for bound in limit
    )
    x = ctx.requantized(x, q, y.dtype)
    _max_min(
        ctx, x, y, low if low.item() > lowest else None, high if high.item() < highest else None
    )


def _max_min(
    ctx: Context, x: Operand, y: Operand, low: np.ndarray | None, high: np.ndarray | None
) -> None:
    """``min(max(x, low), high)``; None is no bound."""
    if low is None and high is None:
        ctx.reshape_into(x, y)
    elif low is not None and high is not None:
        middle = ctx.temporary(y, f"{y.name}_low", y.shape, y.perm)
        ctx.emit("MAXIMUM", [x, _bound(ctx, y, low)], [middle], _OPTIONS)
        ctx.emit("MINIMUM", [middle, _bound(ctx, y, high)], [y], _OPTIONS)
    elif low is not None:
        ctx.emit("MAXIMUM", [x, _bound(ctx, y, low)], [y], _OPTIONS)
    elif high is not None:
        ctx.emit("MINIMUM", [x, _bound(ctx, y, high)], [y], _OPTIONS)


_OPTIONS = Options("MaximumMinimumOptions", {})


def _bound(ctx: Context, y: Operand, value: np.ndarray) -> Operand:
    return ctx.constant(f"{y.name}_bound", value, y.quantization, dtype=y.dtype)


def _saturate(ctx: Context, x: Operand, y: Operand, upper: float) -> None:
    assert y.quantization is not None
    lowest, highest = limits(y.dtype)
    scale, zero = y.quantization.scale[0], int(y.quantization.zero_point[0])
    top = scale * np.float32(highest - zero)
    if zero == lowest and upper >= top - scale / 2:
        ctx.emit("QUANTIZE", [x], [y], Options("QuantizeOptions", {}))
        return
    real = np.float32(min(upper, float(top)))
    step = np.float32(real / np.float32(highest - lowest))
    exact = Quantization.of(step, np.asarray(lowest))
    middle = ctx.tensor(f"{y.name}_clamped", y.shape, y.dtype, exact, y.perm)
    ctx.emit("QUANTIZE", [x], [middle], Options("QuantizeOptions", {}))
    ctx.emit("QUANTIZE", [middle], [y], Options("QuantizeOptions", {}))
