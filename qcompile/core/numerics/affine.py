"""Affine quantization: how a range becomes a scale and a zero point, and reals become integers.

The rule everywhere in qcompile, and that of ONNX QuantizeLinear::

    q = saturate(round_half_to_even(x / scale) + zero_point)      x / scale in float32
    x' = (q - zero_point) * scale                                 in float32

``scale`` is a positive, normal float32, ``zero_point`` an integer of the quantized type; both are
scalars (per-tensor) or vectors along ``axis`` (per-channel).
"""

from typing import Final

import numpy as np

_HALFWAY: Final = 1e-3
"""How near to a half a zero point counts as halfway."""

LIMITS: Final[dict[str, tuple[int, int]]] = {
    "uint2": (0, 3),
    "int2": (-2, 1),
    "uint3": (0, 7),
    "uint4": (0, 15),
    "int4": (-8, 7),
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1),
}
"""Lowest and highest integer of each quantized type. ``uint3`` is stored in four bits."""

SMALLEST_SCALE: Final = np.float32(2.0**-62)
"""Down to this one the product of two scales, which a bias carries, stays a normal float32; no real
range is that small."""


def limits(dtype: str) -> tuple[int, int]:
    """Lowest and highest integer of a quantized type."""
    return LIMITS[dtype]


def weight_limits(dtype: str) -> tuple[int, int]:
    """Lowest and highest integer that a weight of a type may have.

    Those of the type, but as many below zero as above in 4 and 2 bits: LiteRT's kernels misread -8,
    and with -2 and no 2 the weights of a layer would on the whole become too small.
    """
    low, high = LIMITS[dtype]
    return (-high, high) if dtype in {"int4", "int2"} else (low, high)


def bit_width(dtype: str) -> int:
    """Bits of a quantized type."""
    low, high = LIMITS[dtype]
    return (high - low).bit_length()


def is_signed(dtype: str) -> bool:
    """Whether a quantized type holds negative integers."""
    return LIMITS[dtype][0] < 0


def zero_offset(dtype: str) -> int:
    """What to add to a signed integer of the same width to get this type's: 0 or 2**(bits-1)."""
    low, high = LIMITS[dtype]
    return 0 if low < 0 else (high + 1) // 2


def asymmetric_params(
    low: np.ndarray, high: np.ndarray, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of the range ``[low, high]``, widened so that it holds 0.

    Real zero is exactly representable; where ``low`` is 0 or more the zero point is the type's
    lowest integer, so that the quantizer is also a Relu.

    Where the exact zero point lies halfway between two integers, the range is widened by one step
    and the zero point becomes whole. Halfway happens where the ends are told and not measured, as
    in pixels scaled to ``[-1, 1]``: all 256 of them would then lie on rounding ties, at twice the
    mean square error of a rounding, and go up or down with the last bit of the preprocessing.

    Args:
        low: smallest value, a scalar or one a channel; finite.
        high: largest value, of the same shape.
        dtype: quantized type.

    Returns:
        ``scale`` float32 and ``zero_point`` int64, both of the shape of ``low``.
    """
    qmin, qmax = LIMITS[dtype]
    low64 = np.minimum(np.asarray(low, np.float64), 0.0)
    high64 = np.maximum(np.asarray(high, np.float64), 0.0)
    width = high64 - low64
    steps = np.full(width.shape, qmax - qmin, np.float64)
    exact = -low64 * steps / np.where(width > 0, width, 1.0)
    steps = np.where(np.abs(exact - np.floor(exact) - 0.5) < _HALFWAY, steps - 1, steps)
    scale = np.where(width > 0, width / steps, 1.0 / (qmax - qmin)).astype(np.float32)
    scale = np.maximum(scale, SMALLEST_SCALE)
    zero_point = np.clip(np.rint(qmin - low64 / scale.astype(np.float64)), qmin, qmax)
    return scale, zero_point.astype(np.int64)


def symmetric_params(absmax: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of ``[-absmax, absmax]``, with as many steps below zero as above.

    Signed types leave their lowest integer unused (int8: -127..127); unsigned types take the
    same integers shifted by ``zero_offset`` (uint8: 1..255 around 128). A channel that is all
    zero gets the step of a range of one: it stores only zeros.
    """
    _, qmax = LIMITS[dtype]
    steps = qmax - zero_offset(dtype)
    wide = np.asarray(absmax, np.float64)
    scale = np.where(wide > 0, wide / steps, 1.0 / steps).astype(np.float32)
    scale = np.maximum(scale, SMALLEST_SCALE)
    return scale, np.full(scale.shape, zero_offset(dtype), np.int64)


def along_axis(vector: np.ndarray, axis: int | None, rank: int) -> np.ndarray:
    """Shape a per-channel vector so that it broadcasts along ``axis`` of a rank-``rank`` tensor."""
    vector = np.asarray(vector)
    if axis is None or vector.ndim == 0:
        return vector
    shape = [1] * rank
    shape[axis] = vector.shape[0]
    return vector.reshape(shape)


def quantize(
    x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, dtype: str, axis: int | None = None
) -> np.ndarray:
    """Integers of real values, by the rule at the top of this file.

    Returns:
        An array of the shape of ``x`` in the smallest numpy type that holds ``dtype`` (4 and
        2-bit types come unpacked in int8 or uint8).
    """
    qmin, qmax = LIMITS[dtype]
    x = np.asarray(x, np.float32)
    # Sums of 17 bits are exact in float32; in place, since a weight may take hundreds of MB.
    exact = np.float32 if storage_type(dtype).itemsize <= 2 else np.float64
    zero = along_axis(zero_point, axis, x.ndim).astype(exact)
    with np.errstate(over="ignore"):  # infinity is saturated like any large value
        steps = np.divide(x, along_axis(scale, axis, x.ndim), dtype=np.float32)
    steps = np.rint(np.asarray(steps), out=np.asarray(steps)).astype(exact, copy=False)
    np.clip(steps, qmin - zero, qmax - zero, out=steps)
    steps += zero
    integers: np.ndarray = steps.astype(storage_type(dtype))
    return integers


def dequantize(
    q: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, axis: int | None = None
) -> np.ndarray:
    """Real values of integers, float32: ``(q - zero_point)`` exact, then one rounded product."""
    # Integers of 16 bits and fewer, and their differences, are exact in float32.
    exact = np.float32 if np.dtype(q.dtype).itemsize <= 2 else np.float64
    steps = q.astype(exact) - along_axis(zero_point, axis, np.ndim(q)).astype(exact)
    real: np.ndarray = steps.astype(np.float32, copy=False)
    return np.asarray(real * along_axis(scale, axis, np.ndim(q)).astype(np.float32))


def storage_type(dtype: str) -> np.dtype[np.generic]:
    """The numpy type that holds one integer of ``dtype`` an element."""
    low, high = LIMITS[dtype]
    if high - low < 256:
        return np.dtype(np.int8 if low < 0 else np.uint8)
    return np.dtype(dtype)
