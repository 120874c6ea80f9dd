"""Weights as codes of a short table: which numbers the table holds, and which code is nearest.

A code is a place in a table of ``levels``, which ascend: there is one table for a tensor, or one a
channel, or one of powers of two that a scale a channel multiplies. A weight takes the level that is
nearest; halfway between two it takes the lower one.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from qcompile.core.numerics.affine import SMALLEST_SCALE, along_axis
from qcompile.core.numerics.parts import parts

MOST_ROUNDS: Final = 100
"""Rounds of k-means; it has settled long before, but for tables of 256."""

_BINS: Final = 1 << 20
"""Into so many parts the range of a tensor is cut where it has one table: its elements need not be
sorted, and a level is off by less than a millionth of the range."""

_STARTS: Final = (2 / 3, 1.0, 0.0)
"""Where k-means begins: levels as dense as the cube root of the weights' density, evenly spread,
and of equal mass."""

_KNOTS: Final = 1024
"""Quantiles that the first levels are read from."""

_STEPS_AN_OCTAVE: Final = 16
"""Scales that are tried for powers of two: their grid is the same again at half the scale."""


def kmeans_table(
    weight: np.ndarray, entries: int, importance: np.ndarray | None = None
) -> np.ndarray:
    """The levels with the least sum of squared errors over a tensor, as k-means finds them.

    Lloyd's algorithm (S. Lloyd, Least squares quantization in PCM, 1982) on a histogram: since one
    number is quantized at a time, clusters are intervals, and sums over them differences of running
    sums. It needs no random start: the optimum for many levels is as dense as the cube root of the
    weights' density (Panter and Dite, 1951), where one of three starts is.

    Args:
        weight: float32, finite, any shape.
        entries: levels, 2 to 256.
        importance: what the squared error of an element counts, broadcasts to ``weight``; None
            counts all alike.

    Returns:
        float32 (entries,), ascending.
    """
    points, mass, moment = _binned(weight, importance)
    levels: np.ndarray = _lloyd(points[None], mass[None], moment[None], entries)[0]
    return levels


def kmeans_rows(rows: np.ndarray, entries: int, importance: np.ndarray | None = None) -> np.ndarray:
    """As ``kmeans_table``, with levels of its own for each row.

    Args:
        rows: float32 (rows, n), finite.
        entries: levels a row.
        importance: broadcasts to ``rows``.

    Returns:
        float32 (rows, entries), ascending along the last axis.
    """
    levels = np.empty((rows.shape[0], entries), np.float32)
    counts = np.ones((1, 1), np.float32) if importance is None else importance
    counts = np.broadcast_to(counts, rows.shape)
    for part in parts(rows.shape[0], rows.shape[1]):
        order = np.argsort(rows[part], axis=1, kind="stable")
        points = np.take_along_axis(rows[part], order, 1).astype(np.float64)
        mass = np.take_along_axis(counts[part], order, 1).astype(np.float64)
        levels[part] = _lloyd(points, mass, mass * points, entries)
    return levels


def power_levels(bits: int) -> np.ndarray:
    """Zero and ``+-2^0`` to ``+-2^-(2^(bits-1) - 2)``, float32 (2^bits - 1,), ascending.

    A code is a sign and an exponent, the smallest of which means zero: a multiplier is a shifter.
    """
    powers = np.ldexp(np.float32(1.0), -np.arange(2 ** (bits - 1) - 1))
    return np.concatenate([-powers, np.zeros(1), powers[::-1]]).astype(np.float32)


def power_scales(rows: np.ndarray, bits: int, importance: np.ndarray | None = None) -> np.ndarray:
    """The scale of each row under which powers of two have the least sum of squared errors.

    Tried are an octave of scales below the largest magnitude and a quarter of one above: at half
    the scale the grid is the same but for its ends.

    Args:
        rows: float32 (rows, n), finite.
        bits: of a code, 2 to 5.
        importance: broadcasts to ``rows``.

    Returns:
        float32 (rows,), positive; a row of zeros gets 1.
    """
    levels = power_levels(bits)
    scales = np.empty(rows.shape[0], np.float32)
    counts = np.ones((1, 1), np.float32) if importance is None else importance
    counts = np.broadcast_to(counts, rows.shape)
    for part in parts(rows.shape[0], rows.shape[1]):
        scales[part] = _best_scale(np.abs(rows[part]), counts[part], levels)
    return scales


def nearest_codes(weight: np.ndarray, levels: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Place of the nearest level for each element, uint8 of the weight's shape.

    Args:
        weight: float32.
        levels: (entries,), or (channels, entries) along ``axis``; ascending.
        axis: of the channels.
    """
    middles = _middles(levels)
    if axis is None or levels.ndim == 1:
        codes = np.empty(weight.size, np.uint8)
        flat = np.ascontiguousarray(weight).reshape(-1)
        for part in parts(flat.size, 1):
            codes[part] = np.searchsorted(middles, flat[part])
        return codes.reshape(weight.shape)
    codes = np.zeros(weight.shape, np.uint8)
    for place in range(middles.shape[1]):
        codes += weight > along_axis(middles[:, place], axis, weight.ndim)
    return codes


def of_levels(codes: np.ndarray, levels: np.ndarray, axis: int | None = None) -> np.ndarray:
    """What codes stand for, float32 of their shape; ``levels`` and ``axis`` as they were given."""
    if axis is None or levels.ndim == 1:
        return np.asarray(levels[codes], np.float32)
    places = along_axis(np.arange(levels.shape[0]) * levels.shape[1], axis, codes.ndim)
    return np.asarray(levels.reshape(-1)[places + codes], np.float32)


# --- k-means ---------------------------------------------------------------------------------


def _binned(
    weight: np.ndarray, importance: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A weight as a histogram: centre, sum of counts and of counted elements of what is there."""
    low, high = float(weight.min(initial=0.0)), float(weight.max(initial=0.0))
    width = max((high - low) / _BINS, float(SMALLEST_SCALE))
    flat = np.ascontiguousarray(weight).reshape(-1)
    mass, moment = np.zeros(_BINS), np.zeros(_BINS)
    counts = None
    if importance is not None:
        counts = np.broadcast_to(importance, weight.shape).reshape(-1)
    for part in parts(flat.size, 1):
        numbers = flat[part].astype(np.float64)
        bins = np.minimum((numbers - low) / width, _BINS - 1).astype(np.int64)
        counted = np.ones(numbers.size) if counts is None else counts[part].astype(np.float64)
        mass += np.bincount(bins, counted, _BINS)
        moment += np.bincount(bins, counted * numbers, _BINS)
    there = np.flatnonzero(mass > 0)
    if not there.size:  # nothing counts: all alike then
        return _binned(weight, None) if importance is not None else _nothing()
    return low + (there + 0.5) * width, mass[there], moment[there]


def _nothing() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros(1), np.ones(1), np.zeros(1)


@dataclass(frozen=True)
class _Sums:
    """Running sums over sorted points, (rows, n + 1) each."""

    points: np.ndarray
    mass: np.ndarray
    moment: np.ndarray


def _lloyd(points: np.ndarray, mass: np.ndarray, moment: np.ndarray, entries: int) -> np.ndarray:
    """Levels of each row, float32 (rows, entries), the best that ``_STARTS`` lead to.

    ``points`` ascend along the last axis.
    """
    sums = _Sums(points, _running(mass), _running(moment))
    best, most = np.zeros((len(points), entries)), np.full(len(points), -np.inf)
    for start in _STARTS:
        levels = _settled(sums, _first_levels(sums, entries, start))
        kept = _kept(sums, levels)
        better = kept > most
        best, most = np.where(better[:, np.newaxis], levels, best), np.where(better, kept, most)
    return np.sort(best, axis=1).astype(np.float32)


def _settled(sums: _Sums, levels: np.ndarray) -> np.ndarray:
    """Each level moved to the mean of what is nearest to it, until none moves any more."""
    for _ in range(MOST_ROUNDS):
        ends = _places(sums.points, (levels[:, 1:] + levels[:, :-1]) / 2)
        weights = _between(sums.mass, ends)
        found = _between(sums.moment, ends) / np.where(weights > 0, weights, 1.0)
        better = np.where(weights > 0, found, levels)
        if np.array_equal(better, levels):
            break
        levels = better
    return levels


def _kept(sums: _Sums, levels: np.ndarray) -> np.ndarray:
    """What of each row's sum of squares its levels keep, (rows,): the rest is the error."""
    ends = _places(sums.points, (levels[:, 1:] + levels[:, :-1]) / 2)
    weights = _between(sums.mass, ends)
    squares = np.square(_between(sums.moment, ends)) / np.where(weights > 0, weights, 1.0)
    total: np.ndarray = squares.sum(axis=1)
    return total


def _running(sums: np.ndarray) -> np.ndarray:
    total = np.zeros((sums.shape[0], sums.shape[1] + 1))
    np.cumsum(sums, axis=1, out=total[:, 1:])
    return total


def _between(running: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sums over the clusters that end at ``ends``, (rows, entries)."""
    last = np.full((ends.shape[0], 1), running.shape[1] - 1)
    limits = np.concatenate([np.zeros_like(last), ends, last], axis=1)
    return np.diff(np.take_along_axis(running, limits, 1), axis=1)


def _first_levels(sums: _Sums, entries: int, start: float) -> np.ndarray:
    """Levels as dense as a root of the points' density.

    Between neighbouring quantiles lies equal mass, so the density is the inverse of the gap, and
    the integral of its cube root over a gap is the gap to the power of 2/3 (``start``).
    """
    rows, count = sums.points.shape
    knots = min(_KNOTS, count)
    wanted = np.linspace(0.0, 1.0, knots) * sums.mass[:, -1:]
    at = np.clip(_places(sums.mass, wanted) - 1, 0, count - 1)
    quantiles = np.take_along_axis(sums.points, at, 1)
    share = np.zeros((rows, knots))
    np.cumsum(np.diff(quantiles, axis=1) ** start, axis=1, out=share[:, 1:])
    places = (np.arange(entries) + 0.5) / entries
    return np.stack(
        [np.interp(places * s[-1], s, q) for s, q in zip(share, quantiles, strict=True)]
    )


def _places(ascending: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many of each row are ``value`` or less: ``np.searchsorted(side="right")`` row by row."""
    low = np.zeros(values.shape, np.int64)
    high = np.full(values.shape, ascending.shape[1])
    for _ in range(int(ascending.shape[1]).bit_length()):
        middle = (low + high) // 2
        at = np.take_along_axis(ascending, np.minimum(middle, ascending.shape[1] - 1), 1)
        right = (at <= values) & (low < high)
        low = np.where(right, middle + 1, low)
        high = np.where(right, high, middle)
    return low


# --- powers of two ---------------------------------------------------------------------------


def _best_scale(sizes: np.ndarray, counts: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The scale of each row of magnitudes with the least weighted error; of equal ones the first.

    The largest is tried first and wins ties.
    """
    top = sizes.max(axis=1, initial=0.0)
    least = np.where(top > 0, np.inf, 0.0)
    best = top = np.where(top > 0, top, 1.0).astype(np.float32)
    positive = levels[levels >= 0]
    for step in range(-_STEPS_AN_OCTAVE // 4, _STEPS_AN_OCTAVE + 1):
        scale = np.maximum(top * np.float32(2.0 ** (-step / _STEPS_AN_OCTAVE)), SMALLEST_SCALE)
        steps = sizes / scale[:, np.newaxis]
        error = positive[np.searchsorted(_middles(positive), steps)] - steps
        error *= scale[:, np.newaxis]
        found = np.einsum("rn,rn,rn->r", error, error, counts)
        better = found < least
        best, least = np.where(better, scale, best), np.where(better, found, least)
    return best


def _middles(levels: np.ndarray) -> np.ndarray:
    """Halfway between neighbouring levels, in float32."""
    middles: np.ndarray = (levels[..., 1:] + levels[..., :-1]) * np.float32(0.5)
    return middles
