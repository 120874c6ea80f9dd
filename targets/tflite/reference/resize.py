"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR.

Source: LiteRT, ``reference/resize_bilinear.h`` (8 and 16 bits: positions and weights of 10 bits)
and ``resize_nearest_neighbor.h``; XNNPACK, ``indirection.c`` (weights of 11 bits).
"""

import numpy as np

from qcompile.targets.tflite.reference.call import Call, Kernel
from qcompile.targets.tflite.reference.multiplier import half_away

_ONE = 1 << 10
_XNNPACK_BITS = 11
Axis = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of each output position along an axis: lower element, upper element, weight of the upper."""


def resize_bilinear(call: Call) -> Kernel:
    """Weighted mean of the four neighbours."""
    x = call.array(0)
    out = call.integers(1)
    integer = call.x.dtype in ("int8", "int16")
    if call.xnnpack:
        return [_xnnpack(call, x, [_xnnpack_axis(call, x.shape[1 + i], out[i]) for i in (0, 1)])]
    axis = _integer_axis if integer else _float_axis
    rows, columns = (axis(call, x.shape[1 + i], out[i]) for i in (0, 1))
    if not integer:
        return [_interpolated(x.astype(np.float32), rows, columns, np.float32(1)).astype(x.dtype)]
    total = _interpolated(x.astype(np.int64), rows, columns, np.int64(_ONE))
    magnitude = (np.abs(total) + (1 << 19)) >> 20
    return [(np.sign(total) * magnitude).astype(x.dtype)]


def resize_nearest_neighbor(call: Call) -> Kernel:
    """The nearest element, its place computed in float32."""
    x = call.array(0)
    rows, columns = (_nearest(call, x.shape[1 + i], out) for i, out in enumerate(call.integers(1)))
    return [x[:, rows][:, :, columns]]


def _aligned(call: Call, out: int) -> int:
    """1 where the corners are aligned: both lengths are then counted in steps."""
    return int(bool(call.option("alignCorners", False)) and out > 1)


def _nearest(call: Call, size: int, out: int) -> np.ndarray:
    less = _aligned(call, out)
    half = bool(call.option("halfPixelCenters", False))
    scale = np.float32(size - less) / np.float32(out - less)
    place = (np.arange(out, dtype=np.float32) + np.float32(0.5 if half else 0.0)) * scale
    # Whether corners were asked for decides the rounding, also for an output of one element.
    whole = half_away(place) if call.option("alignCorners", False) else np.floor(place)
    return np.clip(whole.astype(np.int64), 0, size - 1)


def _integer_axis(call: Call, size: int, out: int) -> Axis:
    less = _aligned(call, out)
    scale = (_ONE * (size - less) + (out - less) // 2) // (out - less)
    place = np.arange(out, dtype=np.int64) * scale
    if call.option("halfPixelCenters", False):
        place = place + scale // 2 - _ONE // 2
    lower = np.maximum(place // _ONE, 0)
    upper = np.minimum((place + _ONE - 1) // _ONE, size - 1)
    return lower, np.maximum(upper, 0), place - lower * _ONE


def _float_axis(call: Call, size: int, out: int) -> Axis:
    less = _aligned(call, out)
    scale = np.float32(size - less) / np.float32(out - less)
    place = np.arange(out, dtype=np.float32)
    if call.option("halfPixelCenters", False):
        place = (place + np.float32(0.5)) * scale - np.float32(0.5)
    else:
        place = place * scale
    lower = np.maximum(np.floor(place).astype(np.int64), 0)
    upper = np.minimum(np.ceil(place).astype(np.int64), size - 1)
    return lower, np.maximum(upper, 0), place - lower.astype(np.float32)


def _interpolated(x: np.ndarray, rows: Axis, columns: Axis, one: np.generic) -> np.ndarray:
    down = rows[2].reshape(-1, 1, 1).astype(x.dtype)
    across = columns[2].reshape(-1, 1).astype(x.dtype)
    top, bottom = x[:, rows[0]], x[:, rows[1]]
    left, right = columns[0], columns[1]
    total = top[:, :, left] * (one - down) * (one - across)
    total = total + bottom[:, :, left] * down * (one - across)
    total = total + top[:, :, right] * (one - down) * across
    return np.asarray(total + bottom[:, :, right] * down * across)


def _xnnpack_axis(call: Call, size: int, out: int) -> Axis:
    less = _aligned(call, out)
    scale = np.float32(size - less) / np.float32(out - less)
    place = np.arange(out, dtype=np.float32) * scale
    if call.option("halfPixelCenters", False):
        place = place + (np.float32(0.5) * scale - np.float32(0.5))
        place = np.clip(place, np.float32(0), np.float32(size - 1))
    lower = place.astype(np.int64)
    weight = np.rint((place - lower.astype(np.float32)) * np.float32(1 << _XNNPACK_BITS))
    return lower, np.minimum(lower + 1, size - 1), weight.astype(np.int64)


def _xnnpack(call: Call, x: np.ndarray, axes: list[Axis]) -> np.ndarray:
    """Across, then down, in integers; one rounding at the end, halves up."""
    rows, columns = axes
    wide = x.astype(np.int64)
    left, right = wide[:, :, columns[0]], wide[:, :, columns[1]]
    across = (left << _XNNPACK_BITS) + (right - left) * columns[2].reshape(-1, 1)
    top, bottom = across[:, rows[0]], across[:, rows[1]]
    total = (top << _XNNPACK_BITS) + (bottom - top) * rows[2].reshape(-1, 1, 1)
    bits = 2 * _XNNPACK_BITS
    return np.asarray(((total + (1 << (bits - 1))) >> bits).astype(x.dtype))
