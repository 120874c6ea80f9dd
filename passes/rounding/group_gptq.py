"""GPTQ for weights with a scale a group: each group's scales are fitted when rounding reaches it.

As ``passes.rounding.gptq``, in real units, since scales differ from group to group: with
``H = R R^T``, R upper triangular, and ``F = R / diag(R)``,

    t_k = w_k + sum_{j<k} (w_j - w'_j) F_jk          w'_k = the nearest code's value to t_k

and the error of the outputs is ``sum_k (t_k - w'_k)^2 R_kk^2``. So when the first row of a group is
reached, its scales are fitted to the t of the group with weights ``R_kk^2``: what is left of an
input once later ones have made good for it, and not the Gram matrix' own diagonal.

Then ``descend`` looks for codes and scales with a smaller error near those, which few bits need:
each code in turn, and each group's scale, goes to its best value while all others stay.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from qcompile.core.numerics.affine import SMALLEST_SCALE
from qcompile.core.numerics.grouped import from_codes, group_count
from qcompile.core.plan import QuantParams
from qcompile.passes.rounding.gptq import DAMPING, damped, upper_factor
from qcompile.passes.rounding.group_scales import centred, fit_group

BLOCK: Final = 128
"""Rows rounded between two updates by whole matrix products."""


@dataclass(frozen=True)
class Grid:
    """The integers of a weight: bits of a code, rows of a group, where its zero may lie."""

    bits: int
    group: int
    symmetric: bool = False
    narrow: bool = False
    """Symmetric, with codes from 1 on and positive scales."""

    def groups(self, rows: int) -> list[slice]:
        """The rows of each group."""
        return [
            slice(i * self.group, min((i + 1) * self.group, rows))
            for i in range(group_count(rows, self.group))
        ]


@dataclass(frozen=True, eq=False)
class Rounded:
    """Codes of a weight and what they stand for."""

    codes: np.ndarray
    """uint8 (K, N)."""
    params: QuantParams
    """Scale and zero point, (groups, N) each."""

    def columns(self, part: slice) -> "Rounded":
        """Some columns of it."""
        params = QuantParams(self.params.scale[:, part], self.params.zero_point[:, part])
        return Rounded(self.codes[:, part], params)

    def weight(self, grid: Grid) -> np.ndarray:
        """float32 (K, N)."""
        return from_codes(self.codes, self.params, grid.group)


def nearest(weight: np.ndarray, grid: Grid, importance: np.ndarray | None = None) -> Rounded:
    """Nearest codes, of scales with the least weighted error.

    Args:
        weight: float32 (K, N).
        grid: what codes there are.
        importance: (K,), what the squared error of a row counts: the diagonal of the Gram matrix.
    """
    made = _Made(weight, grid)
    for index, rows in enumerate(grid.groups(len(weight))):
        counts = None if importance is None else importance[rows]
        made.fit(index, weight[rows], counts)
        made.q[rows] = centred(
            weight[rows], made.scale[index], made.zero[index], grid.bits, narrow=grid.narrow
        )
    return made.rounded()


@dataclass(frozen=True, eq=False)
class Feedback:
    """What GPTQ needs of a Gram matrix; made once for all weights that read the same input."""

    factor: np.ndarray
    """F, float32 (K, K), upper triangular."""
    energy: np.ndarray
    """R_kk squared, float64 (K,)."""


def feedback(gram: np.ndarray, damping: float = DAMPING) -> Feedback:
    """The triangular factor of a Gram matrix (K, K), with a share of its mean diagonal added."""
    upper = upper_factor(damped(np.asarray(gram, np.float64), damping))
    diagonal = np.diagonal(upper)
    return Feedback((upper / diagonal).astype(np.float32), diagonal**2)


def gptq_groups(weight: np.ndarray, back: Feedback, grid: Grid) -> Rounded:
    """Round a weight row by row, each error made good by the rows that follow.

    Args:
        weight: float32 (K, N); columns do not depend on one another.
        back: of the Gram matrix of the K inputs.
        grid: what codes there are.
    """
    made, factor = _Made(weight, grid), back.factor
    error = np.zeros(weight.shape, np.float32)
    for index, rows in enumerate(grid.groups(len(weight))):
        wanted = weight[rows] + factor[: rows.start, rows].T @ error[: rows.start]
        made.fit(index, wanted, back.energy[rows])
        scale, zero = made.scale[index], made.zero[index]
        for start in range(rows.start, rows.stop, BLOCK):
            block = slice(start, min(start + BLOCK, rows.stop))
            part = wanted[block.start - rows.start : block.stop - rows.start]
            if start > rows.start:
                part += factor[rows.start : start, block].T @ error[rows.start : start]
            for j in range(block.start, block.stop):
                goal = part[j - start]
                if j > start:
                    goal = goal + factor[start:j, j] @ error[start:j]
                made.q[j] = centred(goal, scale, zero, grid.bits, narrow=grid.narrow)
                error[j] = weight[j] - made.q[j] * scale
    return made.rounded()


def descend(
    weight: np.ndarray,
    gram: np.ndarray,
    start: Rounded,
    grid: Grid,
    *,
    sweeps: int,
    damping: float = DAMPING,
) -> Rounded:
    """Codes and scales with a smaller error of the outputs, found by coordinate descent.

    With e = w - w' the error ``e^T H e`` is least in a code where w'_k moves by ``(H e)_k / H_kk``
    (rounded to a code), and in one scale where it moves by ``q^T (H e) / q^T H q``. No step raises
    the error of the damped matrix.

    Args:
        weight: float32 (K, N).
        gram: of the K inputs, (K, K).
        start: where to begin.
        grid: what codes there are.
        sweeps: times that every code and scale is looked at.
        damping: share of the mean diagonal that is added to it.
    """
    full = damped(np.asarray(gram, np.float64), damping)
    hessian = (full / np.mean(np.diagonal(full))).astype(np.float32)
    made = _Made(weight, grid, start)
    slope = hessian @ (weight - start.weight(grid))
    for _ in range(sweeps):
        for index, rows in enumerate(grid.groups(len(weight))):
            made.rescale(index, rows, hessian, slope)
            for first in range(rows.start, rows.stop, BLOCK):
                block = slice(first, min(first + BLOCK, rows.stop))
                made.recode(index, block, hessian, slope)
    return made.rounded()


def output_error(wrong: np.ndarray, gram: np.ndarray) -> float:
    """``tr(E^T H E)``: squared error of the outputs of a weight that is off by E, (K, N)."""
    return float(np.sum(wrong * (gram @ wrong), dtype=np.float64))


class _Made:
    """A weight that is being rounded: codes less their zero points, scales and zero points."""

    def __init__(self, weight: np.ndarray, grid: Grid, start: Rounded | None = None) -> None:
        self.grid = grid
        shape = (group_count(len(weight), grid.group), weight.shape[1])
        if start is None:
            self.q = np.zeros(weight.shape, np.float32)
            self.scale, self.zero = np.ones(shape, np.float32), np.zeros(shape, np.float32)
            return
        self.scale = start.params.scale.copy()
        self.zero = start.params.zero_point.astype(np.float32)
        self.q = start.codes.astype(np.float32)
        for index, rows in enumerate(grid.groups(len(weight))):
            self.q[rows] -= self.zero[index]

    def fit(self, index: int, wanted: np.ndarray, importance: np.ndarray | None) -> None:
        """Set the parameters of a group."""
        grid = self.grid
        fitted = fit_group(
            wanted, importance, grid.bits, symmetric=grid.symmetric, narrow=grid.narrow
        )
        self.scale[index], self.zero[index] = fitted

    def rescale(self, index: int, rows: slice, hessian: np.ndarray, slope: np.ndarray) -> None:
        """Move the scales of a group to their best values; ``slope`` is H e, kept up to date."""
        q = self.q[rows]
        energy = np.sum(q * (hessian[rows, rows] @ q), axis=0)
        wish = np.sum(q * slope[rows], axis=0) / np.where(energy > 0, energy, 1.0)
        moved = np.where(energy > 0, self.scale[index] + wish, self.scale[index])
        fits = (moved * self.scale[index] > 0) & (np.abs(moved) >= SMALLEST_SCALE)
        moved = np.where(fits, moved, self.scale[index]).astype(np.float32)
        slope -= hessian[:, rows] @ (q * (moved - self.scale[index]))
        self.scale[index] = moved

    def recode(self, index: int, block: slice, hessian: np.ndarray, slope: np.ndarray) -> None:
        """Move the codes of a block to their best values, one after the other."""
        scale, zero, grid = self.scale[index], self.zero[index], self.grid
        near, local = hessian[block, block], slope[block].copy()
        before = self.q[block].copy()
        for j in range(block.stop - block.start):
            now = self.q[block.start + j]
            goal = now * scale + local[j] / near[j, j]
            better = centred(goal, scale, zero, grid.bits, narrow=grid.narrow)
            local -= near[:, j, np.newaxis] * ((better - now) * scale)
            self.q[block.start + j] = better
        slope -= hessian[:, block] @ ((self.q[block] - before) * scale)

    def rounded(self) -> Rounded:
        """The outcome."""
        zero = self.zero.astype(np.int64)
        codes = np.empty(self.q.shape, np.uint8)
        for index, rows in enumerate(self.grid.groups(len(self.q))):
            codes[rows] = self.q[rows] + self.zero[index]
        return Rounded(codes, QuantParams(self.scale, zero))
