"""Where the windows of convolutions and pools lie, and views of them without a copy."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from qcompile.targets.tflite.reference.call import Call

SAME = 0
"""The options' number of padding by zero points; the other, 1, is VALID: none."""


def output_size(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    """Length of an output axis under SAME (0) or VALID (1) padding."""
    if padding == SAME:
        return -(-size // stride)
    return -(-(size - (kernel - 1) * dilation) // stride)


def pad_before(size: int, kernel: int, stride: int, dilation: int, out: int) -> tuple[int, int]:
    """What the window reaches over the two ends of an axis; the odd element is at the end."""
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def pads(
    call: Call, size: tuple[int, int], kernel: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pads of both axes of a window of ``kernel`` by the options' padding, strides, dilations."""
    padding = int(call.option("padding", SAME))
    found = []
    for extent, taps, name in zip(size, kernel, "HW", strict=True):
        stride = int(call.option(f"stride{name}", 1))
        dilation = int(call.option(f"dilation{name}Factor", 1))
        out = output_size(extent, taps, stride, dilation, padding)
        found.append(pad_before(extent, taps, stride, dilation, out))
    return found[0], found[1]


def windows(call: Call, x: np.ndarray, kernel: tuple[int, int], fill: float = 0) -> np.ndarray:
    """Windows of ``x`` (N, H, W, C), as a view (N, OH, OW, C, kh, kw) of the padded array."""
    by_height, by_width = pads(call, (x.shape[1], x.shape[2]), kernel)
    padded = np.pad(x, ((0, 0), by_height, by_width, (0, 0)), constant_values=fill)
    stride = int(call.option("strideH", 1)), int(call.option("strideW", 1))
    dilation = int(call.option("dilationHFactor", 1)), int(call.option("dilationWFactor", 1))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = sliding_window_view(padded, (reach[0], reach[1]), axis=(1, 2))
    return view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
