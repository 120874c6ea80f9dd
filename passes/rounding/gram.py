"""The Gram matrices of a layer's inputs: how an error of its weights becomes one of its output.

For a layer ``y = sum_k x_k w_k`` whose weights are off by e, the squared error of the output is
``e^T H e`` with ``H = X X^T``, summed over samples and positions. Where a bias is corrected
afterwards it takes up the mean of that error, and what remains is ``e^T (H - s s^T / rows) e`` with
``s`` the sums of the inputs: their scatter.

Inputs of 8 bits are summed exactly, whatever the order: products of float32 in chunks whose sums
have no more than 24 bits, chunks in float64. So neither threads nor the machine's BLAS matter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.parallel import ordered_map
from qcompile.passes.rounding.windows import inputs_of_outputs

CHUNK: Final = 1024
"""Rows multiplied at once: 2**10 products of two numbers up to 2**7 are exact in float32."""

MOST_ROWS: Final = 1 << 14
"""Rows looked at, over all samples, and at least ``ROWS_AN_INPUT`` for each of K; of larger
pictures evenly spaced lines are taken. (On MobileNet eight times as many changed nothing.)"""

ROWS_AN_INPUT: Final = 16

PARTS: Final = 4
"""Into so many parts the samples are divided for threads, however many there are."""

_PARTS_BYTES: Final = 64 << 20
"""Only where the parts' matrices together take no more than this."""


@dataclass(frozen=True, eq=False)
class Gram:
    """``X X^T`` of each group of a layer's inputs, in steps of the input where it is quantized."""

    matrix: np.ndarray
    """float64 (groups, K, K), symmetric."""
    sums: np.ndarray
    """float64 (groups, K): of each input over all rows."""
    rows: int

    def scatter(self) -> np.ndarray:
        """The same around the mean: what is left when the mean of the output is corrected."""
        if not self.rows:
            return self.matrix
        return self.matrix - self.sums[:, :, np.newaxis] * (self.sums[:, np.newaxis] / self.rows)


def gram(
    samples: Sequence[np.ndarray],
    zero: int,
    node: ir.Node,
    kernel: Sequence[int],
    groups: int,
    depth: int,
    threads: int = 1,
) -> Gram:
    """The Gram matrices of the inputs of a layer.

    Args:
        samples: its input, one array a sample: integers of the plan, or floats.
        zero: the zero point of those integers.
        node: Conv, ConvTranspose, Gemm or MatMul.
        kernel: extent of its kernel; empty for a matrix product.
        groups: groups of its channels.
        depth: K, inputs of one output.
        threads: parts of the samples in work at a time; the result does not depend on it.
    """
    share = rows_a_sample(len(samples), depth)

    def part(indices: Sequence[int]) -> Gram:
        total = _Sums(groups, depth, zero)
        columns = (
            inputs_of_outputs(samples[i], node, kernel, groups, zero, most=share, first=i)
            for i in indices
        )
        for chunk in _chunks(columns):
            total.add(chunk)
        return total.gram()

    count = PARTS if PARTS * groups * depth * depth * 8 <= _PARTS_BYTES else 1
    step = max(-(-len(samples) // count), 1)
    slices = [range(i, min(i + step, len(samples))) for i in range(0, len(samples), step)]
    found = ordered_map(part, slices, threads) or [_Sums(groups, depth, zero).gram()]
    first, *others = found
    matrix, sums, rows = first.matrix, first.sums, first.rows
    for other in others:
        matrix += other.matrix
        sums += other.sums
        rows += other.rows
    return Gram(matrix, sums, rows)


def rows_a_sample(samples: int, depth: int) -> int:
    """How many rows of each sample are looked at, where there are so many."""
    return max(max(MOST_ROWS, ROWS_AN_INPUT * depth) // max(samples, 1), 1)


def _chunks(columns: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same rows in pieces of ``CHUNK``; only the last one has fewer."""
    waiting: list[np.ndarray] = []
    held = 0
    for matrix in columns:
        waiting.append(matrix)
        held += matrix.shape[2]
        if held < CHUNK:
            continue
        joined = np.concatenate(waiting, 2) if len(waiting) > 1 else waiting[0]
        whole = held - held % CHUNK
        for start in range(0, whole, CHUNK):
            yield joined[:, :, start : start + CHUNK]
        waiting, held = [joined[:, :, whole:]], held - whole
    if held:
        yield np.concatenate(waiting, 2)


class _Sums:
    """Running sums over chunks of rows."""

    def __init__(self, groups: int, depth: int, zero: int) -> None:
        self.matrix = np.zeros((groups, depth, depth))
        self.sums = np.zeros((groups, depth))
        self.rows = 0
        self.shift = 0.0
        """What real zero is stored as in the summed numbers."""
        self._zero = zero

    def add(self, chunk: np.ndarray) -> None:
        """Take in (groups, K, rows) of integers or floats."""
        is_integer = chunk.dtype.kind in "iu"
        middle = 128 if chunk.dtype == np.uint8 else 0
        if is_integer:
            self.shift = float(self._zero - middle)
        self.rows += chunk.shape[2]
        if chunk.dtype.itemsize == 1:
            small = chunk.astype(np.float32)
            small -= np.float32(middle)
            self.matrix += small @ small.swapaxes(1, 2)
            self.sums += small.sum(axis=2)  # at most 2**17: exact
        else:
            wide = chunk.astype(np.float64)
            self.matrix += wide @ wide.swapaxes(1, 2)
            self.sums += wide.sum(axis=2)

    def gram(self) -> Gram:
        """The sums as if real zero had been stored as 0."""
        if self.shift:
            side = self.shift * self.sums
            self.matrix -= side[:, :, np.newaxis]
            self.matrix -= side[:, np.newaxis]
            self.matrix += self.rows * self.shift**2
            self.sums -= self.rows * self.shift
        return Gram(self.matrix, self.sums, self.rows)
