"""How far two arrays lie apart, in steps of a scale or as a share of the largest number."""

import numpy as np

from qcompile.compiler.diff.side import Grid


def largest_gap(found: np.ndarray, wanted: np.ndarray, grid: Grid | None) -> float:
    """The largest difference of an element.

    Args:
        found: one side.
        wanted: the other, of the same shape, which says what is large.
        grid: how the value is quantized, though it may be handed out in floats; None for a value
            that exists in floats alone.

    Returns:
        Steps of the grid (LSB), those of integers without one too; else the difference over the
        largest magnitude in ``wanted``. Infinite where one is a number and the other is none, or
        the shapes differ.
    """
    if found.shape != wanted.shape:
        return float("inf")
    if found.size == 0:
        return 0.0
    if not _is_real(found) and not _is_real(wanted):
        return float(np.abs(found.astype(np.int64) - wanted.astype(np.int64)).max())
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gaps = np.where(_same(a, b), 0.0, np.abs(a - b))
    gaps = np.where(np.isnan(gaps), np.inf, gaps)
    if grid is not None and grid.params.scale.size == 1:
        return float(np.rint(gaps.max() / float(grid.params.scale.reshape(())[()])))
    finite = np.abs(b[np.isfinite(b)])
    most = float(finite.max(initial=0.0))
    return float(gaps.max() / most) if most > 0 else float(gaps.max())


def unequal(found: np.ndarray, wanted: np.ndarray) -> int:
    """Number of elements that differ in any bit that counts; all of them for another shape."""
    if found.shape != wanted.shape:
        return max(found.size, wanted.size, 1)
    if not _is_real(found):
        return int(np.count_nonzero(found != wanted))
    return int(np.count_nonzero(~_same(found, wanted)))


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    both: np.ndarray = (a == b) | (np.isnan(a) & np.isnan(b))
    return both


def _is_real(x: np.ndarray) -> bool:
    return np.issubdtype(x.dtype, np.floating)
