"""The scale and zero point of one group of weights that leave the least weighted error."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from qcompile.core.numerics.affine import SMALLEST_SCALE

PARTS: Final = 12
"""Parts of a group's range that are tried, from all of it downwards."""

NARROWEST: Final = {2: 0.5, 3: 0.5, 4: 0.6}
"""Bits of a code -> the smallest part of the range that is tried."""

_NARROWEST_ELSE: Final = 0.9

REFINEMENTS: Final = 3
"""Least squares of the scale, and rounding again, so many times."""


def fit_group(
    weight: np.ndarray,
    importance: np.ndarray | None,
    bits: int,
    *,
    symmetric: bool,
    narrow: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of each column of one group.

    Of the zero points next to the one of the whole range, and of ``PARTS`` steps each, the pair is
    taken whose nearest codes have the least ``sum importance * (w - w')^2``; then the scale is
    moved to its least squares for those codes, ``sum h w q / sum h q^2``, as long as that helps.
    With few codes a scale that clips the outermost weights pays; symmetric scales are signed
    (``core.numerics.grouped``).

    Args:
        weight: (rows, N) float32.
        importance: (rows,), what the squared error of a row counts; None counts all alike.
        bits: of a code.
        symmetric: the zero point is ``2^(bits-1)``.
        narrow: symmetric, with codes from 1 on and positive scales.

    Returns:
        Scale float32 (N,), of magnitude ``SMALLEST_SCALE`` or more, and zero point float32 (N,),
        whole numbers from 0 to ``2^bits - 1``.
    """
    counts = np.ones((len(weight), 1), np.float32)
    if importance is not None:
        largest = float(importance.max(initial=0.0))
        counts = np.asarray(importance / (largest or 1.0), np.float32)[:, np.newaxis]
    low, high = weight.min(axis=0, initial=0.0), weight.max(axis=0, initial=0.0)
    least = np.full(low.shape, np.inf, np.float32)
    scale, zero = np.ones_like(least), np.zeros_like(least)
    parts = np.linspace(1.0, NARROWEST.get(bits, _NARROWEST_ELSE), PARTS)
    for tried_zero, widest, whole in _starts(low, high, bits, symmetric=symmetric, narrow=narrow):
        for part in parts[:1] if whole else parts:
            step = _real(widest * np.float32(part))
            error = _error(weight, counts, step, tried_zero, bits, narrow)[0]
            _keep_better(error < least, (scale, zero, least), (step, tried_zero, error))
    for _ in range(REFINEMENTS):
        q = _error(weight, counts, scale, zero, bits, narrow)[1]
        energy = np.sum(q * q * counts, axis=0)
        wanted = np.sum(q * weight * counts, axis=0) / np.where(energy > 0, energy, 1.0)
        step = _real(np.where(energy > 0, wanted, scale).astype(np.float32))
        error = _error(weight, counts, step, zero, bits, narrow)[0]
        better = (error < least) & (step * scale > 0)
        _keep_better(better, (scale, least), (step, error))
    return scale, zero


def centred(
    weight: np.ndarray, scale: np.ndarray, zero: np.ndarray, bits: int, *, narrow: bool = False
) -> np.ndarray:
    """Nearest codes less their zero points, float32: those that a group may take."""
    q: np.ndarray = np.rint(weight / scale)
    np.clip(q, int(narrow) - zero, 2**bits - 1 - zero, out=q)
    return q


def _starts(
    low: np.ndarray, high: np.ndarray, bits: int, *, symmetric: bool, narrow: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Zero points to try, each with the smallest scale that clips nothing.

    The first one of asymmetric codes is that of the range itself, whose ends a rounded zero point
    may clip by half a step; True says so, and that its parts are none to try.
    """
    levels, middle = 2**bits - 1, 2 ** (bits - 1)
    empty = (low == 0) & (high == 0)
    if narrow:
        widest = np.where(empty, 1.0, np.maximum(high, -low) / (middle - 1))
        yield np.full(low.shape, middle, np.float32), widest.astype(np.float32), False
        return
    if symmetric:
        farthest = np.where(-low >= high, low, high)
        zeros = np.full(low.shape, middle, np.float32)
        yield zeros, np.where(empty, 1.0, -farthest / middle).astype(np.float32), False
        return
    width = np.where(empty, 1.0, high - low)
    exact = np.rint(-low / width * levels)
    yield exact.astype(np.float32), (width / levels).astype(np.float32), True
    for shift in (0, -1, 1):
        zeros = np.clip(exact + shift, 0, levels).astype(np.float32)
        above = high / np.maximum(levels - zeros, 0.5)
        below = -low / np.maximum(zeros, 0.5)
        widest = np.where(empty, 1.0 / levels, np.maximum(above, below))
        yield zeros, widest.astype(np.float32), False


def _real(step: np.ndarray) -> np.ndarray:
    """A scale whose magnitude is not too small."""
    made = np.copysign(np.maximum(np.abs(step), SMALLEST_SCALE), step)
    return np.asarray(made, np.float32)


def _error(
    weight: np.ndarray,
    counts: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray,
    bits: int,
    narrow: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted squared error of each column, and the codes less their zero points."""
    q = centred(weight, scale, zero, bits, narrow=narrow)
    wrong = q * scale
    wrong -= weight
    wrong *= wrong
    return counts[:, 0] @ wrong, q


def _keep_better(
    better: np.ndarray, kept: tuple[np.ndarray, ...], tried: tuple[np.ndarray, ...]
) -> None:
    for old, new in zip(kept, tried, strict=True):
        np.copyto(old, new, where=better)
