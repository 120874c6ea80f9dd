"""CONV_2D, DEPTHWISE_CONV_2D and TRANSPOSE_CONV."""

import numpy as np

from qcompile.targets.tflite.reference.accumulate import product, rescale, with_bias
from qcompile.targets.tflite.reference.call import Call, Kernel, finish_float
from qcompile.targets.tflite.reference.windows import SAME, pad_before, windows


def conv_2d(call: Call) -> Kernel:
    """Weights (O, kh, kw, I/groups), per-channel along 0."""
    w = call.array(1)
    x = call.array(0) if call.is_float else call.centered(0)
    groups = x.shape[3] // w.shape[3]
    view = windows(call, x, w.shape[1:3]).transpose(0, 1, 2, 4, 5, 3)
    channels, outputs = w.shape[3], w.shape[0] // groups
    parts = []
    for group in range(groups):
        taken = view[..., group * channels : (group + 1) * channels]
        columns = taken.reshape(-1, w.shape[1] * w.shape[2] * channels)
        rows = w[group * outputs : (group + 1) * outputs].reshape(outputs, -1)
        parts.append(_matmul(call, columns, rows.T))
    sums = np.concatenate(parts, axis=-1).reshape(*view.shape[:3], w.shape[0])
    return _finished(call, sums)


def depthwise_conv_2d(call: Call) -> Kernel:
    """Weights (1, kh, kw, C * multiplier), per-channel along 3."""
    w = call.array(1)
    x = call.array(0) if call.is_float else call.centered(0)
    multiplier = w.shape[3] // x.shape[3]
    view = windows(call, x, w.shape[1:3])
    taps = w[0].astype(x.dtype)
    sums = np.zeros((*view.shape[:3], w.shape[3]), x.dtype)
    for i in range(w.shape[1]):
        for j in range(w.shape[2]):
            sums += np.repeat(view[..., i, j], multiplier, axis=3) * taps[i, j]
    return _finished(call, sums)


def transpose_conv(call: Call) -> Kernel:
    """Inputs: output shape, weights (O, kh, kw, I), data, bias: each element spreads its window."""
    _, height, width, outer = call.integers(0)
    w = call.array(1)
    integer = call.tensor(2).is_integer
    x = call.centered(2) if integer else call.array(2)
    spread = product if integer else np.matmul
    cast = spread(x.reshape(-1, x.shape[3]), w.reshape(-1, w.shape[3]).T)
    full = _overlapped(call, cast.reshape(*x.shape[:3], *w.shape[:3]))
    top, left = (_cut(call, i, (height, width)[i], w.shape[1 + i], x.shape[1 + i]) for i in (0, 1))
    kept = full[:, top : top + height, left : left + width]
    sums = np.zeros((x.shape[0], height, width, outer), full.dtype)
    sums[:, : kept.shape[1], : kept.shape[2]] = kept
    sums = with_bias(call, sums, 3)
    return [rescale(call, sums, 1) if integer else finish_float(call, sums)]


def _overlapped(call: Call, cast: np.ndarray) -> np.ndarray:
    """Sum of windows (N, H, W, O, kh, kw) laid at the strides, none of them cut."""
    stride = int(call.option("strideH", 1)), int(call.option("strideW", 1))
    n, rows, columns, outer, high, wide = cast.shape
    shape = (n, (rows - 1) * stride[0] + high, (columns - 1) * stride[1] + wide, outer)
    full = np.zeros(shape, cast.dtype)
    for i in range(high):
        for j in range(wide):
            down = slice(i, i + (rows - 1) * stride[0] + 1, stride[0])
            across = slice(j, j + (columns - 1) * stride[1] + 1, stride[1])
            full[:, down, across] += cast[..., i, j]
    return full


def _cut(call: Call, axis: int, out: int, kernel: int, size: int) -> int:
    """How much of the spread windows lies before the output."""
    if int(call.option("padding", SAME)) != SAME:
        return 0
    return pad_before(out, kernel, int(call.option(f"stride{'HW'[axis]}", 1)), 1, size)[0]


def _matmul(call: Call, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return columns @ rows.astype(columns.dtype) if call.is_float else product(columns, rows)


def _finished(call: Call, sums: np.ndarray) -> Kernel:
    sums = with_bias(call, sums, 2)
    return [finish_float(call, sums) if call.is_float else rescale(call, sums, 1)]
