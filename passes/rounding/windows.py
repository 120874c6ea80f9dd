"""The inputs that each output of a multiply-add is summed from, as a matrix (im2col)."""

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g

Pads = list[tuple[int, int]]


def inputs_of_outputs(
    x: np.ndarray,
    node: ir.Node,
    kernel: Sequence[int],
    groups: int,
    zero: float,
    *,
    most: int | None = None,
    first: int = 0,
) -> np.ndarray:
    """Matrix (groups, K, rows): column r holds the K inputs of output position r, in x's type.

    The order of K is that of ``WeightMatrix``. A ConvTranspose is the Conv of its input, spread out
    by the stride with zeros, with the kernel turned round.

    Args:
        x: input of the node: (N, C, *positions) for a Conv, (..., K) for a matrix product.
        node: Conv, ConvTranspose, Gemm (without transA) or MatMul.
        kernel: extent of the kernel; empty for a matrix product.
        groups: groups of channels.
        zero: what stands for a real zero in ``x``; padding is made of it.
        most: about how many rows to give; of more, evenly spaced lines of positions are taken.
        first: the line to begin with, so that samples take different ones (modulo their distance).
    """
    if node.op_type not in {"Conv", "ConvTranspose"}:
        lines = x.reshape(-1, x.shape[-1])
        every = _every(len(lines), most)
        return lines[first % every :: every].T[np.newaxis]
    dilations = g.attribute_ints(node, "dilations", [1] * len(kernel))
    strides = g.attribute_ints(node, "strides", [1] * len(kernel))
    if node.op_type == "Conv":
        pads = _pads(node, x.shape[2:], kernel, dilations, strides)
    else:
        x, pads = _spread(x, node, kernel, dilations, strides, zero)
        strides = (1,) * len(kernel)
    windows = _windows(_padded(x, pads, zero), kernel, dilations, strides)
    if node.op_type == "ConvTranspose":
        windows = np.flip(windows, tuple(range(2, 2 + len(kernel))))
    batch, channels = x.shape[:2]
    axis = 2 + len(kernel)
    every = _every(batch * math.prod(windows.shape[axis:]), most)
    every = min(every, max(windows.shape[axis], 1))
    windows = windows[(slice(None),) * axis + (slice(first % every, None, every),)]
    rows = batch * math.prod(windows.shape[axis:])
    return np.moveaxis(windows, 0, axis - 1).reshape(
        groups, channels // groups * math.prod(kernel), rows
    )


def _every(rows: int, most: int | None) -> int:
    """Which share of the lines to take: every so many-th."""
    return 1 if most is None else max(-(-rows // max(most, 1)), 1)


def _padded(x: np.ndarray, pads: Pads, zero: float) -> np.ndarray:
    """``x`` with padding around its positions; negative padding crops."""
    if not any(map(any, pads)):
        return x
    kept = [slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape[2:], pads, strict=True)]
    added = [(max(a, 0), max(b, 0)) for a, b in pads]
    cropped = x[(slice(None), slice(None), *kept)]
    return np.pad(cropped, ((0, 0), (0, 0), *added), constant_values=zero)


def _windows(
    x: np.ndarray, kernel: Sequence[int], dilations: Sequence[int], strides: Sequence[int]
) -> np.ndarray:
    """View (N, C, *kernel, *outputs) of (N, C, *positions)."""
    outputs = [
        max((size - (k - 1) * d - 1) // s + 1, 0)
        for size, k, d, s in zip(x.shape[2:], kernel, dilations, strides, strict=True)
    ]
    steps = x.strides[2:]
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:2], *kernel, *outputs),
        (
            *x.strides[:2],
            *(step * d for step, d in zip(steps, dilations, strict=True)),
            *(step * s for step, s in zip(steps, strides, strict=True)),
        ),
        writeable=False,
    )


def _pads(
    node: ir.Node,
    sizes: Sequence[int],
    kernel: Sequence[int],
    dilations: Sequence[int],
    strides: Sequence[int],
) -> Pads:
    """Padding before and after each axis of a Conv, auto_pad worked out."""
    mode = g.attribute_str(node, "auto_pad", "NOTSET")
    if mode == "VALID":
        return [(0, 0)] * len(kernel)
    if mode == "NOTSET":
        given = g.attribute_ints(node, "pads", [0] * 2 * len(kernel))
        return list(zip(given[: len(kernel)], given[len(kernel) :], strict=True))
    found = []
    for size, k, d, s in zip(sizes, kernel, dilations, strides, strict=True):
        whole = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        low, high = whole // 2, whole - whole // 2
        found.append((low, high) if mode == "SAME_UPPER" else (high, low))
    return found


def _spread(
    x: np.ndarray,
    node: ir.Node,
    kernel: Sequence[int],
    dilations: Sequence[int],
    strides: Sequence[int],
    zero: float,
) -> tuple[np.ndarray, Pads]:
    """Input of a ConvTranspose with zeros between, and the padding that makes it a Conv."""
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], strides, strict=True)]
    spread = np.full((*x.shape[:2], *sizes), zero, x.dtype)
    spread[(slice(None), slice(None), *(slice(None, None, s) for s in strides))] = x
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    extra = g.attribute_ints(node, "output_padding", [0] * len(kernel))
    crop = _crops(node, sizes, reach, strides, extra)
    return spread, [
        (r - low, r - high + e) for r, (low, high), e in zip(reach, crop, extra, strict=True)
    ]


def _crops(
    node: ir.Node,
    sizes: Sequence[int],
    reach: Sequence[int],
    strides: Sequence[int],
    extra: Sequence[int],
) -> Pads:
    """What a ConvTranspose crops before and after each axis (its ``pads``), as ONNX defines it."""
    count = len(sizes)
    full = [size + r + e for size, r, e in zip(sizes, reach, extra, strict=True)]
    shape = g.attribute_ints(node, "output_shape")
    mode = g.attribute_str(node, "auto_pad", "NOTSET")
    if not shape and mode in {"SAME_UPPER", "SAME_LOWER"}:
        shape = tuple((((z - 1) // s) + 1) * s for z, s in zip(sizes, strides, strict=True))
    if shape:
        wholes = [f - wanted for f, wanted in zip(full, shape[-count:], strict=True)]
        halves = [(w // 2, w - w // 2) for w in wholes]
        return halves if mode == "SAME_UPPER" else [(b, a) for a, b in halves]
    if mode == "VALID":
        return [(0, 0)] * count
    given = g.attribute_ints(node, "pads", [0] * 2 * count)
    return list(zip(given[:count], given[count:], strict=True))
