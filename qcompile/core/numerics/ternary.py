"""Weights of three values or two, ``{-s, 0, s}`` and ``{-s, s}``: the best scale of each group.

They are stored as codes of 2 bits with the zero point 2, which makes them 1, 2 and 3: what the
2-bit kernels read as any other weight. Groups lie as in ``grouped``, whose narrow codes of 2 bits
are those of three values.
"""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from qcompile.core.numerics.affine import SMALLEST_SCALE
from qcompile.core.numerics.grouped import group_count
from qcompile.core.numerics.parts import parts
from qcompile.core.plan import QuantParams

ZERO_POINT: Final = 2
_BestScale = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Magnitudes (rows, columns) and counts (rows,) -> the scale of each column."""


def ternary_params(
    weight: np.ndarray, group: int, importance: np.ndarray | None = None
) -> QuantParams:
    """The scale of each group under which ``{-s, 0, s}`` has the least sum of squared errors.

    Of the n largest magnitudes a as +-s and the rest as 0, with counts c::

        s = sum_n(c a) / sum_n(c)          error = sum(c a^2) - sum_n(c a)^2 / sum_n(c)

    All n are looked at (F. Li, B. Liu, Ternary weight networks, 2016, has the problem and an
    approximation). At the best n the threshold is s / 2: the nearest codes are the best ones.

    Args:
        weight: (K, N) float32, finite.
        group: rows of K that share a scale.
        importance: (K,), what the squared error of a row counts; None counts all alike.

    Returns:
        Scale float32, positive, and zero point 2, both (ceil(K / group), N).
    """
    return _params(weight, group, importance, _best_of_three)


def binary_params(
    weight: np.ndarray, group: int, importance: np.ndarray | None = None
) -> QuantParams:
    """As ``ternary_params`` for ``{-s, s}``: s is the mean magnitude (Rastegari et al., 2016)."""
    return _params(weight, group, importance, _best_of_two)


def binary_codes(weight: np.ndarray) -> np.ndarray:
    """Codes 1 below zero and 3 from zero on, uint8 (K, N)."""
    return np.where(weight < 0, np.uint8(1), np.uint8(3))


def _params(
    weight: np.ndarray, group: int, importance: np.ndarray | None, best: _BestScale
) -> QuantParams:
    shape = (group_count(weight.shape[0], group), weight.shape[1])
    scale = np.empty(shape, np.float32)
    counts = np.ones(weight.shape[0], np.float32) if importance is None else importance
    for number, rows in enumerate(_groups(weight.shape[0], group)):
        for columns in parts(weight.shape[1], rows.stop - rows.start):
            scale[number, columns] = best(np.abs(weight[rows, columns]), counts[rows])
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    return QuantParams(np.maximum(scale, SMALLEST_SCALE), np.full(shape, ZERO_POINT, np.int64))


def _groups(rows: int, group: int) -> Iterator[slice]:
    for first in range(0, max(rows, 1), group):
        yield slice(first, min(first + group, rows))


def _best_of_three(sizes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    order = np.argsort(-sizes, axis=0, kind="stable")
    number = counts[order].astype(np.float64)
    total = np.cumsum(number * np.take_along_axis(sizes, order, 0), axis=0)
    number = np.cumsum(number, axis=0)
    mean = total / np.where(number > 0, number, 1.0)
    best = np.argmax(total * mean, axis=0)[np.newaxis] if len(sizes) else np.zeros((1, 0), int)
    found: np.ndarray = np.take_along_axis(mean, best, 0)[0]
    return found


def _best_of_two(sizes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    weights = counts.astype(np.float64)
    total = weights @ sizes
    found: np.ndarray = total / max(float(weights.sum()), float(np.finfo(np.float64).tiny))
    return found
