"""Coordinate descent on the integers of a weight: each in turn is set to its best, over and over.

QuantEase (Behdin et al. 2023). With ``e = t - q`` the error of an output in steps and
``g = e H``, the best value of one integer, all others kept, is::

    q_j <- clip(round(t_j - (e_j - g_j / H_jj)))

No sweep makes ``e H e^T`` larger; it ends where no single integer can be bettered. All outputs and
groups go at once.
"""

from typing import Final

import numpy as np

from qcompile.core.budget import Budget
from qcompile.passes.rounding.bounds import Bounds, Spent
from qcompile.passes.rounding.gptq import BLOCK, damped, gptq, strongest_first, weighted_error

SWEEPS: Final = 32
"""Most sweeps over all inputs; few layers need ten."""

STARTS: Final = 6
"""Orders in which GPTQ goes through the inputs, each the start of a descent."""

_SPREAD: Final = 0.5
"""How far chance carries an input in the later orders, in units of the logarithm of its energy."""


def reconstruct(
    steps: np.ndarray, hessian: np.ndarray, bounds: Bounds, budget: Budget | None = None
) -> np.ndarray:
    """The best integers that descents from several solutions of GPTQ find, output by output.

    The first start has the strongest inputs first, the next ones nearly so, by a fixed seed. Each
    output keeps its best.

    Args:
        steps: weights divided by their scales, (groups, K, M).
        hessian: (groups, K, K).
        bounds: the integers that are allowed.
        budget: when it is spent no further start or sweep is begun.
    """
    weighed = damped(hessian)
    rng = np.random.default_rng(0)
    energy = np.log(np.diagonal(weighed, axis1=1, axis2=2)).mean(axis=0)
    best = gptq(steps, hessian, bounds, strongest_first(hessian))
    best = descend(steps, best, weighed, bounds, budget)
    least = weighted_error(steps - best, weighed)
    for _ in range(STARTS - 1):
        if budget is not None and budget.is_spent:
            break
        order = np.argsort(-(energy + _SPREAD * rng.standard_normal(energy.size)), kind="stable")
        start = gptq(steps, hessian, bounds, order)
        found = descend(steps, start, weighed, bounds, budget)
        error = weighted_error(steps - found, weighed)
        better = error < least
        best = np.where(better[:, np.newaxis], found, best)
        least = np.where(better, error, least)
    return best


def descend(
    steps: np.ndarray,
    start: np.ndarray,
    hessian: np.ndarray,
    bounds: Bounds,
    budget: Budget | None = None,
) -> np.ndarray:
    """Integers that are no worse than ``start``, for weights given in steps.

    Args:
        steps: weights divided by their scales, (groups, K, M).
        start: integers less their zero points, within the bounds; of the same shape.
        hessian: (groups, K, K).
        bounds: the integers that are allowed.
        budget: no sweep is begun when it is spent.

    Returns:
        float64 (groups, K, M).

    """
    chosen = start.astype(np.float64)
    error = steps - chosen
    gradient = hessian @ error
    spent = bounds.spent(chosen)
    for _ in range(SWEEPS):
        if budget is not None and budget.is_spent:
            break
        moved = False
        for first in range(0, steps.shape[1], BLOCK):
            block = slice(first, min(first + BLOCK, steps.shape[1]))
            change = _sweep(block, steps, chosen, gradient[:, block], hessian, bounds, spent)
            if np.any(change):
                moved = True
                gradient -= hessian[:, :, block] @ change
        if not moved:
            break
    return chosen


def _sweep(
    block: slice,
    steps: np.ndarray,
    chosen: np.ndarray,
    gradient: np.ndarray,
    hessian: np.ndarray,
    bounds: Bounds,
    spent: Spent | None,
) -> np.ndarray:
    """Set each integer of a block to its best, in place; returns by how much each was changed."""
    inside = gradient.copy()
    change = np.zeros_like(inside)
    for j in range(block.start, block.stop):
        own = hessian[:, j, j, np.newaxis]
        here = j - block.start
        before = chosen[:, j].copy()
        # Where an input is always 0 nothing is known, and the integer stays.
        shift = np.divide(inside[:, here], own, out=np.zeros_like(before), where=own > 0)
        if spent is not None:
            spent.add(j, before, -1)
        best = bounds.clip(j, before + shift, spent)
        # A tie stays where it is, or two integers could take turns for ever.
        gain = np.abs(best - before - shift) < np.abs(shift) - 1e-9
        after = np.where(gain, best, before)
        if spent is not None:
            spent.add(j, after, 1)
        delta = after - before
        if np.any(delta):
            chosen[:, j] = after
            change[:, here] = delta
            inside -= hessian[:, block, j, np.newaxis] * delta[:, np.newaxis]
    return change
