"""GPTQ: rounds a weight input by input, each error made good by the inputs that are still open.

Frantar et al. 2022, in the form of Chee et al. 2023 (QuIP, "LDLQ", shown there to give the same
integers), which needs no inverse. With ``H = R R^T``, R upper triangular (the Cholesky factor from
the last input on) and ``F = R / diag(R)``::

    q_k = round(t_k + sum_{j<k} (t_j - q_j) F_jk)

where t are the weights in steps. Errors ``e = t - q`` then satisfy ``e F = r`` with r the roundings
themselves, each at most half a step, and ``e H e^T = sum_k r_k^2 R_kk^2``.
"""

from typing import Final

import numpy as np

from qcompile.passes.rounding.bounds import Bounds

DAMPING: Final = 0.01
"""Added to the diagonal, as a share of its mean."""

BLOCK: Final = 128
"""Inputs rounded between two updates by whole matrix products."""


def gptq(
    steps: np.ndarray, hessian: np.ndarray, bounds: Bounds, order: np.ndarray | None = None
) -> np.ndarray:
    """Integers, less their zero points, of weights given in steps.

    Args:
        steps: weights divided by their scales, (groups, K, M).
        hessian: (groups, K, K), positive semidefinite; what ``Gram`` holds.
        bounds: the integers that are allowed.
        order: in which order the inputs are rounded; as they come when None.

    Returns:
        float64 (groups, K, M), whole numbers within the bounds.

    """
    if order is not None:
        chosen = np.empty(steps.shape)
        chosen[:, order] = gptq(
            steps[:, order], hessian[:, order][:, :, order], bounds.ordered(order)
        )
        return chosen
    feedback = _feedback(damped(hessian))
    depth = steps.shape[1]
    error = np.zeros(steps.shape)
    chosen = np.empty(steps.shape)
    spent = bounds.spent(np.zeros_like(error))
    for start in range(0, depth, BLOCK):
        stop = min(start + BLOCK, depth)
        wanted = steps[:, start:stop] + 0.0
        if start:
            wanted += feedback[:, :start, start:stop].swapaxes(1, 2) @ error[:, :start]
        for j in range(start, stop):
            if j > start:
                row = feedback[:, start:j, j, np.newaxis].swapaxes(1, 2)
                wanted[:, j - start] += (row @ error[:, start:j])[:, 0]
            q = bounds.clip(j, wanted[:, j - start], spent)
            if spent is not None:
                spent.add(j, q, 1)
            chosen[:, j] = q
            error[:, j] = steps[:, j] - q
    return chosen


def strongest_first(hessian: np.ndarray) -> np.ndarray:
    """The inputs in the order of their energy, all groups alike ("act-order"): (K,)."""
    return np.argsort(-_energy(hessian), kind="stable")


def _energy(hessian: np.ndarray) -> np.ndarray:
    """Mean square of each input relative to its group's, as a mean over the groups, (K,)."""
    diagonal = np.diagonal(hessian, axis1=1, axis2=2)
    mean = diagonal.mean(axis=1, keepdims=True)
    energy: np.ndarray = (diagonal / np.where(mean > 0, mean, 1.0)).mean(axis=0)
    return energy


def damped(hessian: np.ndarray, share: float = DAMPING) -> np.ndarray:
    """Matrices (..., K, K) with a share of their mean diagonal added to it; 1 where all is zero."""
    mean = np.diagonal(hessian, axis1=-2, axis2=-1).mean(axis=-1)
    added = np.where(mean > 0, share * mean, 1.0)
    made: np.ndarray = hessian + added[..., np.newaxis, np.newaxis] * np.eye(hessian.shape[-1])
    return made


def upper_factor(hessian: np.ndarray) -> np.ndarray:
    """R of the text above, (..., K, K), of positive definite matrices."""
    upper: np.ndarray = np.linalg.cholesky(hessian[..., ::-1, ::-1])[..., ::-1, ::-1]
    return upper


def weighted_error(error: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """``e H e^T`` of each output: (groups, M) of (groups, K, M)."""
    found: np.ndarray = np.sum((hessian @ error) * error, axis=1)
    return found


def _feedback(hessian: np.ndarray) -> np.ndarray:
    """F of the text above; its diagonal of ones is not used."""
    upper = upper_factor(hessian)
    feedback: np.ndarray = upper / np.diagonal(upper, axis1=1, axis2=2)[:, np.newaxis]
    return feedback
