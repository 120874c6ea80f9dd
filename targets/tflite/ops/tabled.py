"""Functions of one element without a right integer kernel: a table in int8, a formula in floats."""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import LIMITS, dequantize, quantize
from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.operand import Operand
from qcompile.targets.tflite.ops.floats import Formula, options
from qcompile.targets.tflite.ops.forms import (
    in_floats,
    in_integers,
    plain,
    takes_bytes,
    write_bounded,
)
from qcompile.targets.tflite.schema import tensor_type
from qcompile.targets.tflite.unit import RELU_N1_TO_1

Function = Callable[[np.ndarray], np.ndarray]
"""Of float64 values; NaN where it has none."""

_SELU: Final = (1.67326319217681884765625, 1.05070102214813232421875)
"""ONNX's defaults of alpha and gamma."""

_ERF_P: Final = 0.3275911
_ERF: Final = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
"""Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26, highest power first."""


def sqrt(ctx: Context, node: ir.Node) -> None:
    """A table (the integer SQRT rounds down, and stops the run at a negative input), or SQRT."""
    tabulated(ctx, node, np.sqrt, lambda: plain(ctx, node, "SQRT"))


def log(ctx: Context, node: ir.Node) -> None:
    """A table (old runtimes have no integer LOG), or LOG."""
    tabulated(ctx, node, np.log, lambda: plain(ctx, node, "LOG", unbounded=True))


def reciprocal(ctx: Context, node: ir.Node) -> None:
    """A table, or DIV."""
    tabulated(ctx, node, np.reciprocal, lambda: formula(ctx, node, "DIV", 1.0, None))


def elu(ctx: Context, node: ir.Node) -> None:
    """A table (the reference kernels have no ELU), or ELU; another alpha than 1 by a formula."""
    alpha = g.attribute_float(node, "alpha", 1.0)

    def write() -> None:
        if alpha == 1.0:
            plain(ctx, node, "ELU")
            return
        # max(x, 0) + alpha * elu(min(x, 0))
        x = ctx.read(node, 0)
        f = Formula(ctx, node, x.perm)
        low = f.unary("ELU", f.binary("MINIMUM", x, 0.0))
        f.result("ADD", f.binary("MAXIMUM", x, 0.0), f.binary("MUL", low, alpha))

    tabulated(ctx, node, lambda x: np.where(x > 0, x, alpha * np.expm1(x)), write)


def hard_sigmoid(ctx: Context, node: ir.Node) -> None:
    """A table, or ``min(max(alpha * x + beta, 0), 1)``."""
    alpha = g.attribute_float(node, "alpha", 0.2)
    beta = g.attribute_float(node, "beta", 0.5)

    def write() -> None:
        x = ctx.read(node, 0)
        f = Formula(ctx, node, x.perm)
        line = f.binary("ADD", f.binary("MUL", x, alpha), beta)
        f.result("MINIMUM", f.binary("MAXIMUM", line, 0.0), 1.0)

    tabulated(ctx, node, lambda x: np.clip(alpha * x + beta, 0, 1), write)


def softplus(ctx: Context, node: ir.Node) -> None:
    """A table, or ``max(x, 0) + log(1 + exp(-|x|))``, which does not overflow."""

    def write() -> None:
        x = ctx.read(node, 0)
        f = Formula(ctx, node, x.perm)
        f.result("ADD", *_softplus_terms(f, x))

    tabulated(ctx, node, lambda x: np.logaddexp(0.0, x), write)


def softsign(ctx: Context, node: ir.Node) -> None:
    """A table, or ``x / (1 + |x|)``."""

    def write() -> None:
        x = ctx.read(node, 0)
        f = Formula(ctx, node, x.perm)
        f.result("DIV", x, f.binary("ADD", f.unary("ABS", x), 1.0))

    tabulated(ctx, node, lambda x: x / (1.0 + np.abs(x)), write)


def erf(ctx: Context, node: ir.Node) -> None:
    """A table, or a formula that is right to 2e-7."""
    tabulated(ctx, node, _erf_values, lambda: _erf_formula(ctx, node))


def floor(ctx: Context, node: ir.Node) -> None:
    """A table, or FLOOR."""
    tabulated(ctx, node, np.floor, lambda: plain(ctx, node, "FLOOR"))


def ceil(ctx: Context, node: ir.Node) -> None:
    """A table, or ``-floor(-x)``: the reference kernels have no CEIL."""

    def write() -> None:
        x = ctx.read(node, 0)
        f = Formula(ctx, node, x.perm)
        f.result("NEG", f.unary("FLOOR", f.unary("NEG", x)))

    tabulated(ctx, node, np.ceil, write)


def round_(ctx: Context, node: ir.Node) -> None:
    """A table, or ROUND: halves go to the even neighbour in both."""
    tabulated(ctx, node, np.rint, lambda: plain(ctx, node, "ROUND"))


def selu(ctx: Context, node: ir.Node) -> None:
    """A table, or ``gamma * (max(x, 0) + alpha * elu(min(x, 0)))``."""
    alpha = g.attribute_float(node, "alpha", _SELU[0])
    gamma = g.attribute_float(node, "gamma", _SELU[1])

    def write() -> None:
        x = ctx.read(node, 0)
        f = Formula(ctx, node, x.perm)
        low = f.unary("ELU", f.binary("MINIMUM", x, 0.0))
        high = f.binary("MUL", f.binary("MAXIMUM", x, 0.0), gamma)
        f.result("ADD", high, f.binary("MUL", low, alpha * gamma))

    tabulated(ctx, node, lambda x: gamma * np.where(x > 0, x, alpha * np.expm1(x)), write)


def mish(ctx: Context, node: ir.Node) -> None:
    """A table, or ``x * tanh(softplus(x))``."""

    def write() -> None:
        x = ctx.read(node, 0)
        f = Formula(ctx, node, x.perm)
        f.result("MUL", x, f.unary("TANH", _softplus(f, x)))

    tabulated(ctx, node, lambda x: x * np.tanh(np.logaddexp(0.0, x)), write)


def sin(ctx: Context, node: ir.Node) -> None:
    """A table, or SIN."""
    tabulated(ctx, node, np.sin, lambda: plain(ctx, node, "SIN"))


def cos(ctx: Context, node: ir.Node) -> None:
    """A table, or COS."""
    tabulated(ctx, node, np.cos, lambda: plain(ctx, node, "COS"))


def sign(ctx: Context, node: ir.Node) -> None:
    """A table, or SIGN."""
    tabulated(ctx, node, np.sign, lambda: plain(ctx, node, "SIGN"))


def tabulated(
    ctx: Context, node: ir.Node, function: Function, in_float: Callable[[], None]
) -> None:
    """A table where the node is an int8 op, else what ``in_float`` writes."""
    if takes_bytes(node):
        table(ctx, node, function)
        return
    in_floats(ctx, node, "in integers it is a table, from int8 to int8 only")
    in_float()


def table(ctx: Context, node: ir.Node, function: Function, index: int = 0) -> None:
    """GATHER from the output's integer for each of the 256 inputs.

    The input's raw integer, as int32 and 128 higher, is the index. The function is computed in
    double from the float32 value; where it has none (the root of a negative number) the table
    holds the lowest integer.
    """
    in_integers(ctx)
    x = ctx.read(node, index)
    y = ctx.define(node, x.perm)
    assert x.quantization is not None and y.quantization is not None
    low, high = LIMITS["int8"]
    q = x.quantization
    real = dequantize(np.arange(low, high + 1, dtype=np.int16), q.scale[0], q.zero_point[0])
    with np.errstate(all="ignore"):
        values = np.asarray(function(real.astype(np.float64)), np.float32)
    most = float(np.finfo(np.float32).max)
    values = np.nan_to_num(values, nan=-most, posinf=most, neginf=-most)
    p = y.quantization
    table = quantize(values, p.scale[0], p.zero_point[0], y.dtype)
    raw = ctx.tensor(f"{y.name}_raw", x.shape, "int32", None, x.perm)
    indices = ctx.tensor(f"{y.name}_indices", x.shape, "int32", None, x.perm)
    offset = ctx.constant("table_offset", np.full((1,) * x.rank, -low, np.int32))
    kinds = {"inDataType": tensor_type("int8"), "outDataType": tensor_type("int32")}
    ctx.emit("CAST", [x], [raw], Options("CastOptions", kinds))
    ctx.emit("ADD", [raw, offset], [indices], options("ADD"))
    held = ctx.constant(f"{y.name}_table", table, p, dtype=y.dtype)
    gather = Options("GatherOptions", {"axis": 0, "batchDims": 0})
    ctx.emit("GATHER", [held, indices], [y], gather)


def _erf_formula(ctx: Context, node: ir.Node) -> None:
    """``sign(x) * (1 - p(t) * exp(-x*x))`` with ``t = 1 / (1 + 0.3275911 |x|)``."""
    x = ctx.read(node, 0)
    f = Formula(ctx, node, x.perm)
    t = f.binary("DIV", 1.0, f.binary("ADD", f.binary("MUL", f.unary("ABS", x), _ERF_P), 1.0))
    p = f.binary("MUL", t, _ERF[0])
    for factor in _ERF[1:]:
        p = f.binary("MUL", f.binary("ADD", p, factor), t)
    tail = f.unary("EXP", f.binary("MUL", f.binary("MUL", x, x), -1.0))
    size = f.binary("SUB", 1.0, f.binary("MUL", p, tail))
    # The sign, 0 at 0: XNNPACK has no SIGN, but a clamp behind a product.
    f.result("MUL", f.binary("MUL", x, 1e30, RELU_N1_TO_1), size)


def formula(ctx: Context, node: ir.Node, op: str, left: float | None, right: float | None) -> None:
    """A float operator of the input and a number; None stands for the input."""
    x = ctx.read(node, 0)
    f = Formula(ctx, node, x.perm)
    inputs = [x if term is None else f.operand(term) for term in (left, right)]
    write_bounded(ctx, node, op, inputs, x.perm)


def _softplus(f: Formula, x: Operand) -> Operand:
    return f.binary("ADD", *_softplus_terms(f, x))


def _softplus_terms(f: Formula, x: Operand) -> tuple[Operand, Operand]:
    small = f.unary("EXP", f.binary("MUL", f.unary("ABS", x), -1.0))
    return f.binary("MAXIMUM", x, 0.0), f.unary("LOG", f.binary("ADD", small, 1.0))


def _erf_values(x: np.ndarray) -> np.ndarray:
    return np.asarray([math.erf(value) for value in x])
