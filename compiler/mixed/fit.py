"""What parts of plans take, fitted to the times of whole artefacts; before any, a guess stands.

The time of an artefact is the sum over its parts, each counted as often as the artefact has it.
With a normal guess of every part and normal errors of every time, the most likely times of the
parts are those of a linear least-squares problem (Bayesian linear regression, Bishop 2006, 3.3).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

DOUBT: Final = 0.6
"""Standard deviation of a guess, as a share of it."""

LEAST_DOUBT: Final = 0.01
"""The same as a share of the whole model's time: a guess of nothing may be wrong as well."""


@dataclass
class Fit:
    """The most likely time of each part.

    Args:
        guess: part -> its time before anything was measured, in any unit.
        whole: the time of the whole float model in that unit.
    """

    guess: Mapping[str, float]
    whole: float
    _rows: list[tuple[Mapping[str, float], float, float]] = field(default_factory=list)

    def add(self, parts: Mapping[str, float], time: float, error: float) -> None:
        """An artefact that was timed: what it is made of, and the standard deviation."""
        self._rows.append((parts, time, error))

    def solve(self) -> "Solved":
        """Fit all that was added."""
        names = list(self.guess)
        place = {name: i for i, name in enumerate(names)}
        mean = np.array([self.guess[name] for name in names])
        doubt = np.hypot(DOUBT * mean, LEAST_DOUBT * self.whole)
        rows = np.zeros((len(self._rows), len(names)))
        times, errors = np.zeros(len(rows)), np.ones(len(rows))
        for i, (parts, time, error) in enumerate(self._rows):
            for part, count in parts.items():
                rows[i, place[part]] = count
            times[i], errors[i] = time, error
        scaled = rows / errors[:, None]
        precision = np.diag(1 / doubt**2) + scaled.T @ scaled
        spread = np.linalg.inv(precision)
        left = (times - rows @ mean) / errors
        return Solved(place, mean + spread @ (scaled.T @ left), spread)


@dataclass(frozen=True)
class Solved:
    """Times of parts, and how they vary together."""

    place: Mapping[str, int]
    times: np.ndarray
    """(parts,)."""
    spread: np.ndarray
    """Covariance (parts, parts)."""

    def time(self, part: str) -> float:
        """Of one part; never negative."""
        return max(float(self.times[self.place[part]]), 0.0)

    def difference(self, one: str, other: str) -> tuple[float, float]:
        """Time of a part less that of another one, and its standard deviation."""
        i, j = self.place[one], self.place[other]
        variance = self.spread[i, i] + self.spread[j, j] - 2 * self.spread[i, j]
        return float(self.times[i] - self.times[j]), float(np.sqrt(max(variance, 0.0)))
