"""Padding of windows: what SAME or VALID can say, and a PAD for the rest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import limits
from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.context import Context, Operand
from qcompile.targets.tflite.layout import stored_axis

SAME, VALID = 0, 1
"""The schema's Padding."""


@dataclass(frozen=True)
class Window:
    """Windows over the spatial axes, one entry an axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    """Elements before the first, outside the picture."""
    end: tuple[int, ...]
    out: tuple[int, ...]
    """Number of windows."""

    @property
    def reach(self) -> tuple[int, ...]:
        """Elements from the first to the last of a window."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def is_padded(self) -> bool:
        """Whether any window looks outside the picture."""
        return any((*self.begin, *self.end))


def window_of(
    node: ir.Node, size: Sequence[int], out: Sequence[int], kernel: Sequence[int]
) -> Window:
    """The windows of a convolution or pool over a picture of ``size`` with ``out`` results.

    The padding at the end is what the last window needs, which with ``ceil_mode`` is more, and with
    a stride may be less, than the node says.
    """
    n = len(size)
    strides = g.attribute_ints(node, "strides", (1,) * n)
    dilations = g.attribute_ints(node, "dilations", (1,) * n)
    mode = g.attribute_str(node, "auto_pad", "NOTSET")
    told = g.attribute_ints(node, "pads", (0,) * (2 * n))
    begin, end = [], []
    for i in range(n):
        needed = (out[i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1
        total = max(needed - size[i], 0)
        if mode in {"SAME_UPPER", "SAME_LOWER"}:
            begin.append((total + (mode == "SAME_LOWER")) // 2)
        else:
            begin.append(told[i] if mode == "NOTSET" else 0)
        end.append(max(needed - size[i] - begin[i], 0))
    return Window(
        tuple(kernel), strides, dilations, tuple(begin), tuple(end), tuple(int(o) for o in out)
    )


def is_same(window: Window, size: Sequence[int]) -> bool:
    """Whether TFLite's SAME puts the windows in these places."""
    for i, reach in enumerate(window.reach):
        if window.out[i] != -(-size[i] // window.strides[i]):
            return False
        total = max((window.out[i] - 1) * window.strides[i] + reach - size[i], 0)
        if window.begin[i] != total // 2:
            return False
    return True


def padded(
    ctx: Context, x: Operand, window: Window, *, lowest: bool = False
) -> tuple[Operand, int]:
    """The picture that windows run over, and SAME or VALID.

    Args:
        ctx: the lowering.
        x: (N, C, spatial...), any order.
        window: the windows.
        lowest: pad with the lowest number (for a maximum) rather than real zero.
    """
    size = x.shape[2:]
    if not window.is_padded:
        return x, VALID
    if is_same(window, size):
        return x, SAME
    pads = [(0, 0), (0, 0), *zip(window.begin, window.end, strict=True)]
    return pad(ctx, x, pads, lowest=lowest), VALID


def pad(
    ctx: Context, x: Operand, pads: Sequence[tuple[int, int]], *, lowest: bool = False
) -> Operand:
    """``x`` with elements before and after each logical axis: real zero, or the lowest number."""
    shape = tuple(n + sum(p) for n, p in zip(x.shape, pads, strict=True))
    y = ctx.temporary(x, f"{x.name}_padded", shape, x.perm)
    value = _lowest(x)
    if not lowest or (x.quantization is not None and value == x.quantization.zero_point[0]):
        ctx.emit("PAD", [x, _amounts(ctx, x, pads)], [y], Options("PadOptions", {}))
    else:
        pad_with(ctx, x, y, pads, np.asarray(value, np.dtype(x.dtype)))
    return y


def pad_with(
    ctx: Context, x: Operand, y: Operand, pads: Sequence[tuple[int, int]], value: np.ndarray
) -> None:
    """Write ``x``, with elements of one raw value around it, into ``y``: PADV2.

    It takes no int16: there CONCATENATION with constants, an axis at a time.
    """
    if x.dtype != "int16":
        filling = ctx.constant("padding", value.reshape(1), x.quantization, dtype=x.dtype)
        operands = [x, _amounts(ctx, x, pads), filling]
        ctx.emit("PADV2", operands, [y], Options("PadV2Options", {}))
        return
    axes = [axis for axis, pair in enumerate(pads) if any(pair)]
    if not axes:
        ctx.reshape_into(x, y)
    for axis in axes:
        before, after = (
            np.full((*x.shape[:axis], width, *x.shape[axis + 1 :]), value, np.int16)
            for width in pads[axis]
        )
        held = [ctx.constant("padding", b, x.quantization, perm=x.perm) for b in (before, after)]
        pieces = [piece for piece in (held[0], x, held[1]) if piece.size]
        shape = (*x.shape[:axis], x.shape[axis] + sum(pads[axis]), *x.shape[axis + 1 :])
        made = y if axis == axes[-1] else ctx.temporary(y, f"{y.name}_{axis}", shape, y.perm)
        fields = {"axis": stored_axis(x.perm, axis), "fusedActivationFunction": 0}
        ctx.emit("CONCATENATION", pieces, [made], Options("ConcatenationOptions", fields))
        x = made


def _amounts(ctx: Context, x: Operand, pads: Sequence[tuple[int, int]]) -> Operand:
    return ctx.constant("paddings", np.asarray([pads[a] for a in x.perm], np.int32))


def _lowest(x: Operand) -> float:
    if x.quantization is None:
        return float(np.finfo(np.float32).min)
    return limits(x.dtype)[0]
