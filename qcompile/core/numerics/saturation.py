"""Which products an integer kernel adds in too small a type, and scales at which none overflow.

AVX2 has no instruction that multiplies bytes and sums in 32 bits. ``VPMADDUBSW`` multiplies
unsigned activations with signed weights, adds ``products`` neighbouring products, and saturates the
sum to int16. Whether that can happen is a property of the weights alone: with activations anywhere
in ``[0, high]`` the extreme sums of a group ``w`` are

    high * sum(max(w, 0))    and    high * sum(min(w, 0))

and a channel whose every group keeps both within the limits cannot saturate, whatever it is fed.
"""

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from qcompile.core.numerics.affine import LIMITS
from qcompile.core.target import Saturation

Pairing = Literal["neighbours", "any", "none"]
PAIRINGS: Final[tuple[str, ...]] = ("neighbours", "any", "none")
"""``neighbours``: the kernel walks a column of weights in its own order (kernel positions, then
input channels; for a matrix, the rows) and adds products 0+1, 2+3, ... ``any``: unknown, so the
largest weights of one sign are taken to meet. ``none``: the kernel widens before it adds."""

Kind = Literal["conv", "grouped", "depthwise", "gemm", "matmul"]
KINDS: Final[tuple[str, ...]] = ("conv", "grouped", "depthwise", "gemm", "matmul")
"""The kernels that a target names a pairing for."""


def kind_of(op: str, weight_shape: Sequence[int], group: int = 1) -> Kind | None:
    """The kind of kernel that a node with this weight runs; None when it has no multiply-add.

    Depthwise is one input and one output channel a group. With several output channels a group
    ("depth multiplier") ONNX Runtime runs its grouped kernel.
    """
    if op == "Conv":
        if group == 1:
            return "conv"
        return "depthwise" if weight_shape[1] == 1 and weight_shape[0] == group else "grouped"
    kinds: dict[str, Kind] = {"Gemm": "gemm", "MatMul": "matmul"}
    return kinds.get(op)


def columns(weight: np.ndarray, axis: int) -> np.ndarray:
    """Every output channel's weights in the order in which a kernel walks them.

    Args:
        weight: ONNX layout: (out, in, *kernel) with ``axis`` 0, (out, in) with ``axis`` 0 (Gemm
            with transB), or (*batch, in, out) with ``axis`` the last one.
        axis: the axis of the output channels.

    Returns:
        Shape (out, batch, depth); batch is 1 but for a stack of matrices.

    """
    if axis % weight.ndim == 0 and weight.ndim > 1:
        out = weight.shape[0]
        return np.moveaxis(weight, 1, -1).reshape(out, 1, -1)
    if axis % weight.ndim != weight.ndim - 1:
        raise ValueError(f"axis {axis} of a weight of rank {weight.ndim} is no output axis")
    batch, depth, out = math.prod(weight.shape[:-2]), weight.shape[-2], weight.shape[-1]
    return weight.reshape(batch, depth, out).transpose(2, 0, 1)


def groups(weight: np.ndarray, axis: int, products: int) -> np.ndarray:
    """The groups of weights whose products ``neighbours`` adds; shape (out, groups, products)."""
    walked = columns(weight, axis)
    missing = -walked.shape[-1] % products
    if missing:
        walked = np.pad(walked, ((0, 0), (0, 0), (0, missing)))
    return walked.reshape(walked.shape[0], -1, products)


def extreme_sums(
    weight: np.ndarray, axis: int, pairing: str, products: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """The least and greatest sum of weights that one group of products can weigh.

    Args:
        weight: integers in ONNX layout.
        axis: the axis of the output channels.
        pairing: one of PAIRINGS.
        products: how many products are added in the small type.

    Returns:
        ``low`` (<= 0) and ``high`` (>= 0), int64, one an output channel.

    """
    if pairing not in PAIRINGS:
        raise ValueError(f"unknown pairing {pairing!r}; known are {', '.join(PAIRINGS)}")
    outputs = weight.shape[axis]
    if pairing == "none" or weight.size == 0:
        return np.zeros(outputs, np.int64), np.zeros(outputs, np.int64)
    if pairing == "any":
        walked = columns(weight, axis).reshape(outputs, -1)
        missing = max(products - walked.shape[1], 0)
        ordered = np.partition(np.pad(walked, ((0, 0), (0, missing))), (products - 1, -products), 1)
        least, greatest = ordered[:, :products], ordered[:, -products:]
        least_sum = np.minimum(least, 0).sum(1, dtype=np.int64)
        return least_sum, np.maximum(greatest, 0).sum(1, dtype=np.int64)
    grouped = groups(weight, axis, products)
    low = np.minimum(grouped, 0).sum(2, dtype=np.int64).min(1)
    return low, np.maximum(grouped, 0).sum(2, dtype=np.int64).max(1)


def sum_limits(saturation: Saturation) -> tuple[int, int]:
    """The least and greatest sum of weights in a group that no activations can overflow."""
    high = saturation.activation_high
    return -(-saturation.low // high), saturation.high // high


def channels_at_risk(
    weight: np.ndarray, axis: int, pairing: str, saturation: Saturation
) -> np.ndarray:
    """Which output channels some activations can saturate; bool, one an output channel.

    Args:
        weight: signed integers in ONNX layout, zero point 0.
        axis: the axis of the output channels.
        pairing: one of PAIRINGS.
        saturation: of the target.

    """
    low, high = extreme_sums(weight, axis, pairing, saturation.products)
    least, greatest = sum_limits(saturation)
    return (low < least) | (high > greatest)


def safe_scales(
    weight: np.ndarray,
    scale: np.ndarray,
    axis: int,
    pairing: str,
    saturation: Saturation,
    dtype: str = "int8",
) -> np.ndarray:
    """The smallest scales, none below the given ones, whose nearest integers cannot saturate.

    With a growing scale each ``|rint(w / s)|`` shrinks or stays, so the scales that are safe are
    all those from a smallest one on; it is found by bisection over float32, channel by channel, on
    the very expression that rounds the weight. Only groups that can decide are looked at.

    Args:
        weight: float weights in ONNX layout.
        scale: float32, one an output channel.
        axis: the axis of the output channels.
        pairing: one of PAIRINGS.
        saturation: of the target.
        dtype: signed type of the weight.

    Returns:
        float32 scales of the shape of ``scale``.

    """
    if pairing == "none" or weight.size == 0:
        return scale
    found = scale.astype(np.float32).copy()
    least, greatest = sum_limits(saturation)
    sides = (columns(weight, axis), greatest), (columns(-weight, axis), -least)
    for walked, limit in sides:
        positive = np.maximum(walked, 0)
        grouped = _deciding_groups(positive, pairing, saturation.products)
        _raise_scales(found, grouped, limit, LIMITS[dtype])
    return found


def _deciding_groups(walked: np.ndarray, pairing: str, products: int) -> np.ndarray:
    """The groups of positive weights a channel's scale depends on; (out, groups, products)."""
    if pairing == "any":
        flat = walked.reshape(walked.shape[0], -1)
        flat = np.pad(flat, ((0, 0), (0, max(products - flat.shape[1], 0))))
        return np.partition(flat, -products, 1)[:, None, -products:]
    depth = walked.shape[-1]
    padded = np.pad(walked, ((0, 0), (0, 0), (0, -depth % products)))
    return padded.reshape(walked.shape[0], -1, products)


def _raise_scales(
    scale: np.ndarray, grouped: np.ndarray, limit: int, bounds: tuple[int, int]
) -> None:
    """Raise ``scale`` in place to the least value at which no group's integers sum above limit."""
    products = grouped.shape[-1]
    widest = grouped.sum(2, dtype=np.float64).max(1)
    # Rounding adds at most 1/2 a product: below (limit - products / 2) a sum cannot exceed limit.
    certain = (widest / (limit - products / 2)).astype(np.float32)
    certain = np.nextafter(certain, np.float32(np.inf))
    open_channels = np.flatnonzero(certain > scale)
    if not open_channels.size:
        return
    low, high = scale[open_channels], certain[open_channels]
    reach = (limit - products / 2) * low.astype(np.float64)
    rows, groups_ = np.nonzero(grouped[open_channels].sum(2, dtype=np.float64) > reach[:, None])
    weights = grouped[open_channels][rows, groups_]

    def fails(trial: np.ndarray) -> np.ndarray:
        steps = np.rint(weights.astype(np.float32) / trial[rows, None])
        over = np.minimum(steps, bounds[1]).sum(1) > limit
        failed: np.ndarray = np.bincount(rows, over, trial.size) > 0
        return failed

    failing = fails(low)
    high = np.where(failing, high, low)
    for _ in range(32):  # float32 has 24 bits: the ends meet before
        middle = ((low.astype(np.float64) + high) / 2).astype(np.float32)
        inside = failing & (middle > low) & (middle < high)
        if not inside.any():
            break
        failed = fails(middle)
        low = np.where(inside & failed, middle, low)
        high = np.where(inside & ~failed, middle, high)
    scale[open_channels] = high
