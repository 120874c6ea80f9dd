"""Tells pictures whose channels lie where the model does not have them, from the numbers alone.

An array of N x H x W x 3 that was reshaped to N x 3 x H x W, where its axes should have been moved,
has the right shape and type and is nonsense. In a picture, neighbours are alike:

1. Channels first: along a row the next number is closer than the one after next but one. Where the
   third next is clearly closer, colours alternate along the row.
2. Channels last: the three steps from a number to the next in memory are two between colours and
   one between colours of neighbouring pixels, and differ in size. Where all three are equal, and
   smaller than those from pixel to pixel, they lie along a row of one colour.

Pictures in grey tell nothing either way. RGB and BGR cannot be told apart.
"""

from typing import Final

import numpy as np

CLEARLY: Final = 0.8
"""The alternating step is at most this much of the neighbour's."""
EQUAL: Final = 1.15
"""So far apart at most are three means that count as equal."""
_FEWEST: Final = 8
"""Pixels along each side, below which nothing is said."""

Steps = tuple[float, float, float, float]


def color_axis(shape: tuple[int, ...]) -> int | None:
    """Where a picture of this shape has its three colours: 1 or 3, None where it is unclear."""
    if len(shape) != 4 or (shape[1] == 3) == (shape[3] == 3):
        return None
    axis = 1 if shape[1] == 3 else 3
    sides = shape[2:] if axis == 1 else shape[1:3]
    return axis if min(sides) >= _FEWEST else None


def steps(x: np.ndarray) -> Steps | None:
    """Mean sizes of steps between numbers of a picture; None where ``color_axis`` is.

    Channels first: to the next and to the third next along a row. Channels last: the three steps
    in memory order, and the step to the next pixel.
    """
    axis = color_axis(x.shape)
    if axis is None:
        return None
    x = x.astype(np.float32)
    if axis == 1:
        return _mean(x[..., 1:] - x[..., :-1]), _mean(x[..., 3:] - x[..., :-3]), 0.0, 0.0
    first, second, third = x[..., 0], x[..., 1], x[..., 2]
    return (
        _mean(first - second),
        _mean(second - third),
        _mean(third[..., :-1] - first[..., 1:]),
        _mean(x[:, :, 1:] - x[:, :, :-1]),
    )


def is_misplaced(axis: int, mean: Steps) -> bool:
    """Whether the mean steps of some pictures say that colours lie along another axis."""
    a, b, c, pixel = mean
    if axis == 1:
        return b < CLEARLY * a
    low, high = min(a, b, c), max(a, b, c)
    return low > 0 and high < EQUAL * low and low < CLEARLY * pixel


def _mean(difference: np.ndarray) -> float:
    return float(np.abs(difference).mean())
