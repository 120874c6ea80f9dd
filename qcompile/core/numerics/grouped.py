"""Weights with a scale a group: how K x N floats become unsigned codes and back.

The columns of a weight of shape (K, N) are cut along K into groups of ``group`` rows, the last one
may be shorter. Codes are 0 to ``2^bits - 1`` and a code stands for::

    code = clip(round_half_to_even(w / scale) + zero_point, 0, 2^bits - 1)     in float32
    w' = (code - zero_point) * scale                                          in float32

with a scale and an integer zero point a group and column, arrays of shape (ceil(K / group), N): as
DequantizeLinear with ``axis = 0, block_size = group`` wants them.

Symmetric groups have the zero point ``2^(bits-1)``, which leaves one code more below zero than
above. Their scale is *signed*, so that the entry that is farthest from zero always gets that code:
the step is then ``absmax / 2^(bits-1)`` on either side.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from qcompile.core.numerics.affine import SMALLEST_SCALE
from qcompile.core.numerics.parts import parts
from qcompile.core.plan import QuantParams

SHRINKS: Final = tuple(1 - step / 20 for step in range(11))
"""Parts of a group's range that ``fitted_params`` tries; narrower ones only lose."""


def group_count(rows: int, group: int) -> int:
    """How many groups K rows make; at least one."""
    return max(1, -(-rows // group))


def group_params(weight: np.ndarray, bits: int, group: int, symmetric: bool) -> QuantParams:
    """Scales and zero points that cover the whole range of each group, 0 included.

    Args:
        weight: (K, N) float32, finite.
        bits: of a code, 1 to 8.
        group: rows of K that share a scale; K need not be a multiple.
        symmetric: zero point ``2^(bits-1)`` and a signed scale, instead of a positive scale and a
            zero point where 0 lies.

    Returns:
        Scale float32 and zero point int64, both (ceil(K / group), N).
    """
    scale, zero = _empty(weight, group)
    for columns in _columns(weight):
        low, high = _ends(_cut(weight[:, columns], group))
        scale[:, columns], zero[:, columns] = _params(low, high, bits, symmetric)
    return QuantParams(scale, zero)


def fitted_params(
    weight: np.ndarray,
    bits: int,
    group: int,
    symmetric: bool,
    importance: np.ndarray | None = None,
    *,
    narrow: bool = False,
) -> QuantParams:
    """As ``group_params``, of the ranges of ``SHRINKS`` with the least error of the group.

    Few codes are better spent on the many small weights than on one that is large: the outermost
    are clipped where the sum of squared errors gets smaller.

    Args:
        weight: (K, N) float32, finite.
        bits: of a code.
        group: rows of K that share a scale.
        symmetric: as in ``group_params``.
        importance: (K,), what the squared error of a row counts: the mean square of its input
            (the diagonal of the Gram matrix); None counts all alike.
        narrow: symmetric, with codes from 1 on and positive scales.
    """
    scale, zero = _empty(weight, group)
    counts = np.ones(weight.shape[0], np.float32) if importance is None else importance
    counts = _cut(np.asarray(counts, np.float32)[:, None], group)
    for columns in _columns(weight):
        pieces = _cut(weight[:, columns], group)
        best = _best(pieces, counts, bits, symmetric, narrow)
        scale[:, columns], zero[:, columns] = best
    return QuantParams(scale, zero)


def to_codes(
    weight: np.ndarray, params: QuantParams, bits: int, group: int, *, narrow: bool = False
) -> np.ndarray:
    """Nearest codes of a weight, uint8 (K, N); saturates at 0 (narrow: 1) and ``2^bits - 1``."""
    codes = np.empty(weight.shape, np.uint8)
    rows = weight.shape[0]
    for columns in _columns(weight):
        pieces = _cut(weight[:, columns], group)
        scale, zero = params.scale[:, None, columns], params.zero_point[:, None, columns]
        found = _nearest(pieces, scale, zero.astype(np.float32), bits, narrow)
        codes[:, columns] = found.reshape(-1, found.shape[2])[:rows]
    return codes


def from_codes(codes: np.ndarray, params: QuantParams, group: int) -> np.ndarray:
    """What codes stand for, float32 (K, N)."""
    weight = np.empty(codes.shape, np.float32)
    rows = codes.shape[0]
    for columns in _columns(codes):
        pieces = _cut(codes[:, columns], group)
        pieces = pieces - params.zero_point[:, None, columns].astype(np.float32)
        pieces *= params.scale[:, None, columns]
        weight[:, columns] = pieces.reshape(-1, pieces.shape[2])[:rows]
    return weight


def _empty(weight: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    shape = (group_count(weight.shape[0], group), weight.shape[1])
    return np.empty(shape, np.float32), np.empty(shape, np.int64)


def _columns(weight: np.ndarray) -> Iterator[slice]:
    """Runs of columns that are worked on at a time."""
    return parts(weight.shape[1], weight.shape[0])


def _cut(weight: np.ndarray, group: int) -> np.ndarray:
    """(K, N) as (groups, rows, N) float32; zeros, which widen no range, fill the last one."""
    rows, columns = weight.shape
    group = min(group, max(1, rows))  # one group that is longer than K needs no filling
    missing = group_count(rows, group) * group - rows
    whole = np.asarray(weight, np.float32)
    if missing:
        whole = np.concatenate([whole, np.zeros((missing, columns), np.float32)])
    return whole.reshape(-1, group, columns)


def _ends(pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest entry of each group, 0 included: (groups, N) each."""
    return pieces.min(axis=1, initial=0.0), pieces.max(axis=1, initial=0.0)


def _params(
    low: np.ndarray, high: np.ndarray, bits: int, symmetric: bool, narrow: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of ranges that hold 0; a group of zeros gets the step of [0, 1]."""
    levels, middle = 2**bits - 1, 2 ** (bits - 1)
    if narrow:
        largest = np.maximum(high, -low).astype(np.float64)
        scale = np.where(largest == 0, 1.0, largest) / (middle - 1)
        scale = np.maximum(scale, SMALLEST_SCALE).astype(np.float32)
        return scale, np.full(low.shape, middle, np.int64)
    if symmetric:
        farthest = np.where(-low >= high, low, high).astype(np.float64)
        scale = np.where(farthest == 0, 1.0, -farthest) / middle
        scale = np.copysign(np.maximum(np.abs(scale), SMALLEST_SCALE), scale)
        return scale.astype(np.float32), np.full(low.shape, middle, np.int64)
    width = high.astype(np.float64) - low
    scale = np.maximum(np.where(width == 0, 1.0, width) / levels, SMALLEST_SCALE)
    scale = scale.astype(np.float32)
    zero = np.clip(np.rint(-low / scale.astype(np.float64)), 0, levels)
    return scale, zero.astype(np.int64)


def _nearest(
    pieces: np.ndarray, scale: np.ndarray, zero: np.ndarray, bits: int, narrow: bool
) -> np.ndarray:
    """Codes as float32, in one array of the size of ``pieces``."""
    steps: np.ndarray = np.divide(pieces, scale, dtype=np.float32)
    np.rint(steps, out=steps)
    steps += zero
    np.clip(steps, int(narrow), 2**bits - 1, out=steps)
    return steps


def _best(
    pieces: np.ndarray, counts: np.ndarray, bits: int, symmetric: bool, narrow: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Of each group the parameters with the least error; of equal ones the widest."""
    low, high = _ends(pieces)
    scale, zero = _params(low, high, bits, symmetric, narrow)
    least = _error(pieces, counts, scale, zero, bits, narrow)
    for part in SHRINKS[1:]:
        ends = low * np.float32(part), high * np.float32(part)
        tried = _params(*ends, bits, symmetric, narrow)
        error = _error(pieces, counts, *tried, bits, narrow)
        better = error < least
        for kept, new in zip((scale, zero, least), (*tried, error), strict=True):
            np.copyto(kept, new, where=better)
    return scale, zero


def _error(
    pieces: np.ndarray,
    counts: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray,
    bits: int,
    narrow: bool,
) -> np.ndarray:
    """Sum of squared errors of each group, weighted by row: (groups, N)."""
    step, middle = scale[:, None], zero[:, None].astype(np.float32)
    wrong = _nearest(pieces, step, middle, bits, narrow)
    wrong -= middle
    wrong *= step
    wrong -= pieces
    wrong *= wrong
    error: np.ndarray = np.einsum("grn,gr->gn", wrong, counts[:, :, 0])
    return error
