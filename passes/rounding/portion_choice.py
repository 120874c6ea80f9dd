"""Of several ways to round the weights that read one value, the one with the least output error.

For a weight W whose product reads Y where the float model's reads X, and what W' stands for,

    |X W - Y W'|^2 = tr(E^T H E) + 2 tr(E^T D W) + const     E = W - W', H = Y^T Y, D = Y^T (X - Y)

a row. GPTQ aims at ``W + H^-1 D W``, which takes away what the portions before did to the layer's
input (Li et al. 2025, GPTAQ); with H damped, since few rows are seen. Each way is judged on rows
that took no part in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from qcompile.core.parallel import ordered_map
from qcompile.core.plan import QuantParams
from qcompile.passes.rounding.gptq import damped
from qcompile.passes.rounding.group_gptq import (
    Grid,
    Rounded,
    descend,
    feedback,
    gptq_groups,
    nearest,
    output_error,
)
from qcompile.passes.rounding.portions import Seen

Method = Literal["nearest", "gptq"]

COLUMNS: Final = 1024
"""Columns of a weight in work at a time; fixed, so that no result depends on the threads."""

ROWS_AN_INPUT: Final = 10
"""Rows that must have been seen for each of the K inputs, or GPTQ follows their chance. (On a
language model of 1536 inputs, 1536 rows made GPTQ worse than nearest codes.)"""

DAMPING: Final = 0.1
"""Of H where the drift of the inputs is made good for."""


@dataclass(frozen=True, eq=False)
class LayerChoice:
    """What was chosen for one weight, and what else there was."""

    rounded: Rounded
    """Of the weight times the portion's factors."""
    method: Method
    errors: dict[str, float] = field(default_factory=dict)
    """Way -> error of the outputs a row, on rows that took no part."""


@dataclass(frozen=True, eq=False)
class PortionChoice:
    """What was chosen for the weights of one portion."""

    layers: tuple[LayerChoice, ...]
    factors: np.ndarray | None = None
    """float32 (K,): what AWQ divides their input by."""

    @property
    def error(self) -> float:
        """Of all layers, as far as it depends on the choice."""
        return sum(min(layer.errors.values()) for layer in self.layers)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a portion reads: on rows that it is rounded for, and on others that judge."""

    fit: Seen
    held: Seen

    @property
    def suffices(self) -> bool:
        """Whether GPTQ has seen enough."""
        return self.fit.rows >= ROWS_AN_INPUT * len(self.fit.gram)


def choose_portion(
    weights: Sequence[np.ndarray],
    grids: Sequence[Grid],
    seen: Evidence,
    factors: np.ndarray | None,
    *,
    sweeps: int,
    threads: int = 1,
) -> PortionChoice:
    """Round the weights of a portion, with and without factors, and keep what leaves less.

    Args:
        weights: float32 (K, N) each.
        grids: of their codes.
        seen: what they read.
        factors: of AWQ, float32 (K,); None where there are none to try.
        sweeps: of the descent behind GPTQ.
        threads: ways and parts of a weight in work at a time.
    """
    ways = [None] if factors is None else [None, factors]
    each = max(threads // len(ways), 1)
    # Without rows enough the drift would be as much chance as GPTQ's feedback.
    pull = _pull(seen.fit) if seen.suffices else None

    def choose(way: np.ndarray | None) -> PortionChoice:
        rounding = _Rounding(seen, pull, way, sweeps, each)
        layers = (rounding.of(w, grid) for w, grid in zip(weights, grids, strict=True))
        return PortionChoice(tuple(layers), way)

    return min(ordered_map(choose, ways, threads), key=lambda choice: choice.error)


class _Rounding:
    """What the weights of a portion have in common, with factors or without."""

    def __init__(
        self,
        seen: Evidence,
        pull: np.ndarray | None,
        factors: np.ndarray | None,
        sweeps: int,
        threads: int,
    ) -> None:
        self.held, self.pull, self.factors = seen.held, pull, factors
        self.sweeps, self.threads = sweeps, threads
        gram = seen.fit.gram
        self.gram = gram if factors is None else gram / np.outer(factors, factors)
        self.back = feedback(self.gram) if seen.suffices else None

    def of(self, weight: np.ndarray, grid: Grid) -> LayerChoice:
        """Round one weight in each way there is; the best one."""
        made: dict[Method, Rounded] = {"nearest": self._by_columns(self._nearest, weight, grid)}
        if self.back is not None:
            made["gptq"] = self._by_columns(self._gptq, weight, grid)
        errors: dict[str, float] = {
            name: sum(
                _judged(weight[:, part], one.columns(part).weight(grid), self.factors, self.held)
                for part in _parts(weight)
            )
            for name, one in made.items()
        }
        best = min(made, key=lambda name: errors[name])
        return LayerChoice(made[best], best, errors)

    def _nearest(self, weight: np.ndarray, grid: Grid) -> Rounded:
        return nearest(_aimed(weight, None, self.factors), grid, np.diagonal(self.gram))

    def _gptq(self, weight: np.ndarray, grid: Grid) -> Rounded:
        assert self.back is not None
        goal = _aimed(weight, self.pull, self.factors)
        first = gptq_groups(goal, self.back, grid)
        return descend(goal, self.gram, first, grid, sweeps=self.sweeps) if self.sweeps else first

    def _by_columns(
        self, way: Callable[[np.ndarray, Grid], Rounded], weight: np.ndarray, grid: Grid
    ) -> Rounded:
        """A weight rounded in parts, which do not depend on one another."""
        parts = _parts(weight)
        made = ordered_map(lambda part: way(weight[:, part], grid), parts, self.threads)
        if len(made) == 1:
            return made[0]
        params = QuantParams(
            np.concatenate([one.params.scale for one in made], axis=1),
            np.concatenate([one.params.zero_point for one in made], axis=1),
        )
        return Rounded(np.concatenate([one.codes for one in made], axis=1), params)


def effective(layer: LayerChoice, grid: Grid, factors: np.ndarray | None) -> np.ndarray:
    """What a weight became, as the unscaled input sees it: float32 (K, N)."""
    made = layer.rounded.weight(grid)
    return made if factors is None else np.asarray(made / factors[:, None], np.float32)


def _judged(weight: np.ndarray, made: np.ndarray, factors: np.ndarray | None, held: Seen) -> float:
    wrong = weight - (made if factors is None else made / factors[:, None])
    error = output_error(wrong, held.gram)
    if held.drift is not None:
        error += 2.0 * float(np.sum(wrong * (held.drift @ weight), dtype=np.float64))
    return error


def _pull(fit: Seen) -> np.ndarray | None:
    """``H^-1 D``, H damped; None where the input is that of the float model."""
    if fit.drift is None:
        return None
    full = damped(fit.gram.astype(np.float64), DAMPING)
    return np.asarray(np.linalg.solve(full, fit.drift.astype(np.float64)), np.float32)


def _aimed(weight: np.ndarray, pull: np.ndarray | None, factors: np.ndarray | None) -> np.ndarray:
    """What a weight is rounded to, times the factors: of some columns, which is all it takes."""
    goal = weight if pull is None else weight + pull @ weight
    return np.asarray(goal if factors is None else goal * factors[:, None], np.float32)


def _parts(weight: np.ndarray) -> list[slice]:
    columns = weight.shape[1]
    return [slice(i, min(i + COLUMNS, columns)) for i in range(0, columns, COLUMNS)]
