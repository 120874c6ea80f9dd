"""Finds samples that are almost copies, by a sketch of 64 numbers for each.

A sketch holds the means of 64 runs of the sample's numbers in memory order (of a picture: bands of
rows of each channel). Re-encoding, noise and a shift by a pixel change them little. Two samples are
near copies when their sketches lie closer than ``NEAR`` of the usual distance between two samples
of the set, so that neither the numbers' unit nor a set that varies little matters.
"""

from typing import Final

import numpy as np

SIZE: Final = 64
NEAR: Final = 0.03
"""Over eight sets of pictures, spectra, log-mels and speech the closest two different samples lie
0.08 apart; a picture saved again as JPEG of quality 90 lies at 0.005, of quality 30 at 0.03."""
MOST: Final = 2048
"""Samples that are compared, each with each."""
_FEWEST: Final = 8
_ROWS: Final = 256


def sketch(feeds: dict[str, np.ndarray]) -> np.ndarray | None:
    """The sketch of a sample, float32 (SIZE,) an input; None when no input is made of amounts.

    Whole numbers of more than one byte are taken for names (of words), which have no distance.
    """
    parts = [
        _means(x.reshape(-1))
        for _, x in sorted(feeds.items())
        if x.size > 1 and (x.dtype.kind == "f" or x.dtype.itemsize == 1)
    ]
    return np.concatenate(parts) if parts else None


def _means(flat: np.ndarray) -> np.ndarray:
    count = min(SIZE, flat.size)
    starts = np.arange(count) * flat.size // count
    sums = np.add.reduceat(flat, starts, dtype=np.float32)
    means = np.zeros(SIZE, np.float32)
    means[:count] = sums / np.diff(np.append(starts, flat.size))
    return means


def near_copies(sketches: np.ndarray, prints: np.ndarray) -> tuple[int, tuple[int, int] | None]:
    """Count samples that are almost a copy of an earlier one.

    Args:
        sketches: float32 (samples, numbers), NaN-free.
        prints: a checksum each, (samples,); exact copies are not counted.

    Returns:
        How many, and the first pair (earlier, later) if there is one.
    """
    if len(sketches) < _FEWEST:
        return 0, None
    x = sketches[:MOST].astype(np.float64)
    x = x - np.median(x, axis=0)
    squares = (x * x).sum(axis=1)
    usual = 2 * float(np.median(squares))  # of two samples drawn at random
    if usual <= 0:
        return 0, None
    count, first = 0, None
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        apart = squares[rows, None] + squares - 2 * (x[rows] @ x.T)
        near = (apart < NEAR**2 * usual) & (prints[rows, None] != prints[: len(x)])
        near &= np.arange(len(x)) < np.arange(start, start + len(near))[:, None]
        hits = np.flatnonzero(near.any(axis=1))
        if hits.size and first is None:
            first = (int(near[hits[0]].argmax()), start + int(hits[0]))
        count += int(hits.size)
    return count, first
