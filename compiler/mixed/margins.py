"""How often a classifier would change its mind: float's margins against the plan's errors.

Counted on few samples, a loss comes in steps of whole samples. Here every sample of one set, with
the margins by which float decides, meets the error that every sample of another set has shown.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

RANKS: Final = 64
"""Classes looked at for each sample: those that float ranks first."""

RESAMPLED: Final = 1000
"""Draws of the bootstrap by which intervals are found."""

SURPRISE: Final = 3.5
"""Standard deviations by which what was counted may differ from what was expected."""

_TEMPERATURES: Final = np.exp(np.linspace(np.log(0.25), np.log(4.0), 65))
_TIE: Final = 1e-12
"""Of the largest score: by so much for each class number before it a class stands behind, so that
of equal ones the lower one wins, as it does where classes are counted."""
_CHUNK: Final = 1 << 22
_SEED: Final = 0


@dataclass(frozen=True)
class Estimate:
    """An expected loss with its 95 % interval, in points."""

    points: float
    low: float | None = None
    high: float | None = None
    """None where there is no interval."""
    counted: bool = False
    """What was counted contradicts the margins, and stands here instead."""


@dataclass(frozen=True)
class Ranked:
    """Float's class scores, each row in falling order.

    Args:
        order: class numbers, int (rows, ranks).
        scores: logits of these, less the mean of all, float64 (rows, ranks).
        chances: how likely each of them is the right one, float64 (rows, ranks).
    """

    order: np.ndarray
    scores: np.ndarray
    chances: np.ndarray

    def __len__(self) -> int:
        return len(self.order)

    def part(self, rows: np.ndarray) -> "Ranked":
        """Some of the rows."""
        return Ranked(self.order[rows], self.scores[rows], self.chances[rows])


def ranked(logits: np.ndarray, labels: np.ndarray | None) -> Ranked:
    """Rank the classes of each row.

    Args:
        logits: float scores before any Softmax, (rows, classes).
        labels: right classes (rows,). They serve to fit the temperature of the Softmax only (Guo
            et al. 2017, On Calibration of Modern Neural Networks), by least log loss; without them
            it is 1.
    """
    z = _centred(logits)
    chances = _softmax(z / (1.0 if labels is None else temperature(z, labels)))
    order = np.argsort(-z, axis=1, kind="stable")[:, :RANKS]
    pick = np.take_along_axis
    return Ranked(order, pick(z, order, axis=1), pick(chances, order, axis=1))


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """What logits are divided by so that their Softmax says how often it is right; 0.25 to 4."""
    rows = np.arange(len(labels))
    losses = [
        -np.log(np.maximum(_softmax(logits / t)[rows, labels], 1e-12)).mean() for t in _TEMPERATURES
    ]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def expected(floats: Ranked, tested: np.ndarray, found: np.ndarray, *, by_chance: bool) -> Estimate:
    """What a plan is expected to lose on rows like those of ``floats``.

    The errors of the logits are those that some rows have shown. For each of them::

        e_k = a_k + b_k z_k + r_k        a, b fitted for the first class, b for all others

    since a coarse plan takes more from the first class than from the rest. Then every row is given
    the ``r`` of every tested row, rank by rank (so that what two close classes have in common stays
    common), and the class that wins then is looked at. Where what the tested rows themselves have
    done lies more than ``SURPRISE`` standard deviations from what this says of them, the errors
    hang together with the rows in a way it does not know, and what was counted is taken.

    Args:
        floats: all rows whose margins are known.
        tested: which of them the plan was run on, int (tested,).
        found: the plan's scores of these, (tested, classes).
        by_chance: count the chance to be right that a change of class loses, for a loss of
            accuracy; otherwise every change counts in full, for a loss of agreement.

    Returns:
        Points (hundredths of the rows). The interval is a bootstrap's over both sets of rows.
    """
    own = floats.part(tested)
    found = np.where(np.isfinite(found), found, 0.0)
    errors = np.take_along_axis(_centred(found), own.order, axis=1) - own.scores
    winners = _winners(floats, own.scores, errors)
    lost = _lost(floats, winners, by_chance=by_chance)
    there = _rank_of(own, np.argmax(found, axis=1))
    if _is_surprising(winners[tested] != 0, there != 0):
        return _estimate(_lost(own, there[:, None], by_chance=by_chance), counted=True)
    return _estimate(lost, counted=False)


def _winners(floats: Ranked, scores: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """The rank of the class that wins in each row with each error, int (rows, tested)."""
    slope, offset = _line(scores[:, 0], errors[:, 0])
    others = float((errors * scores)[:, 1:].sum() / max((scores[:, 1:] ** 2).sum(), 1e-30))
    left = errors - others * scores
    left[:, 0] = errors[:, 0] - slope * scores[:, 0] - offset
    base = (1 + others) * floats.scores
    base[:, 0] = (1 + slope) * floats.scores[:, 0] + offset
    base -= _TIE * float(np.abs(scores).max(initial=0.0)) * floats.order
    step = max(1, _CHUNK // max(left.size, 1))
    parts = [
        np.argmax(base[start : start + step, None] + left[None], axis=2)
        for start in range(0, len(base), step)
    ]
    return np.concatenate(parts)


def _rank_of(floats: Ranked, classes: np.ndarray) -> np.ndarray:
    """The rank that float gives to one class of each row; the last where it is not among them."""
    same = floats.order == classes[:, None]
    return np.asarray(np.where(same.any(axis=1), same.argmax(axis=1), same.shape[1] - 1))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and offset of least squares; no slope where there are too few different points."""
    spread = float(((x - x.mean()) ** 2).sum())
    if len(x) < 8 or spread < 1e-12:
        return 0.0, float(y.mean())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    return slope, float(y.mean()) - slope * float(x.mean())


def _lost(floats: Ranked, winners: np.ndarray, *, by_chance: bool) -> np.ndarray:
    """Points that each change of class loses, float64 of the shape of ``winners``."""
    if not by_chance:
        return np.where(winners != 0, 100.0, 0.0)
    taken = np.take_along_axis(floats.chances, winners, axis=1)
    return np.asarray(100.0 * (floats.chances[:, :1] - taken))


def _is_surprising(expected: np.ndarray, counted: np.ndarray) -> bool:
    """Whether changes (tested,) differ from their chances, the means of (tested, errors)."""
    chances = expected.mean(axis=1)
    # Both the rows' own dice and the few errors behind the chances.
    variance = float((chances * (1 - chances)).sum())
    variance += float(expected.sum(axis=0).var(ddof=0)) / max(expected.shape[1], 1)
    return bool(abs(counted.sum() - chances.sum()) > 1 + SURPRISE * variance**0.5)


def _estimate(lost: np.ndarray, *, counted: bool) -> Estimate:
    rows, errors = lost.shape
    rng = np.random.default_rng(_SEED)
    over_rows = rng.multinomial(rows, np.full(rows, 1 / rows), RESAMPLED) / rows
    over_errors = rng.multinomial(errors, np.full(errors, 1 / errors), RESAMPLED) / errors
    draws = ((over_rows @ lost) * over_errors).sum(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(float(lost.mean()), float(low), float(high), counted)


def _centred(scores: np.ndarray) -> np.ndarray:
    wide = scores.astype(np.float64)
    return np.asarray(wide - wide.mean(axis=1, keepdims=True))


def _softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
