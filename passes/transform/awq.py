"""AWQ: channels that carry much are made larger in weights of few bits, and smaller before them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.numerics.grouped import fitted_params, from_codes, to_codes
from qcompile.core.parallel import ordered_map
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.statistics.gram import Gram
from qcompile.passes.rounding.group_gptq import Grid, output_error
from qcompile.passes.transform.apply import apply_factors
from qcompile.passes.transform.channels import Group
from qcompile.passes.transform.reads import balanced, floored, product_reads

NAME: Final = "awq"

ALPHAS: Final = tuple(step / 10 for step in range(1, 11))
"""Powers of the channels' size that are tried."""

LEAST_GAIN: Final = 0.98
"""Share of the error that may be left, or the channels stay as they are."""

COLUMNS: Final = 256
"""Most columns of each weight that factors are judged by, evenly spread."""

FLOOR: Final = 1e-4
"""Smallest size of a channel, relative to the largest."""

_GRAM: Final = "gram"


@dataclass(frozen=True)
class Awq(ir.passes.InPlacePass):
    """Scale what products read by factors found before (Lin et al. 2023).

    With X the output of a norm or of a layer, and one number s a channel,

        X W = (X / s) (s W)

    and the rounding of ``s W`` leaves an error of about a step over s: small for the channels that
    carry much, where s is large. ``1 / s`` goes into the gain of the norm, or into the weight of
    the layer that makes X (also through a product, as from the up projection of a gated MLP to its
    down projection).

    Left alone: what others than products with constant weights read, as the output of a norm that
    a residual reads as well, and what no factor goes through to a constant (the input of an output
    projection behind grouped heads). The float function is kept but for the rounding of the new
    constants. A second run changes nothing.

    Args:
        factors: name of the group's first value -> s, float32 (channels,);
            QCompileError(BAD_PLAN) when there is no such value in the graph.
    """

    factors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply what was not applied to this graph before."""
        return ir.passes.PassResult(model, apply_factors(model, NAME, self.factors))


def scalable(graph: ir.Graph) -> dict[str, Group]:
    """Name of what products read -> the group of channels around it, where factors can go."""
    return {read.name: read.group for read in product_reads(graph)}


def best_factors(
    gram: np.ndarray,
    weights: Sequence[np.ndarray],
    grids: Sequence[Grid],
    alphas: Sequence[float] = ALPHAS,
    threads: int = 1,
) -> np.ndarray | None:
    """The factors that leave the least error of the outputs with nearest codes.

    Tried are ``a^alpha`` and ``a^alpha / m^(1-alpha)`` a channel, with a the root mean square of
    the channel and m the mean magnitude of the weights that read it, each divided by its geometric
    mean. The error is ``tr(E^T H E)`` over all that read the channels.

    Args:
        gram: of the channels, H, (K, K).
        weights: all that read them, (K, N) each.
        grids: of their codes.
        alphas: the powers.
        threads: factors that are tried at a time; the result does not depend on it.

    Returns:
        float32 (K,), or None where nothing leaves clearly less than the channels as they are.
    """
    energy = np.diagonal(gram).astype(np.float64)
    size = floored(np.sqrt(np.maximum(energy, 0.0)), FLOOR)
    reach = floored(np.max([np.abs(w).mean(axis=1) for w in weights], axis=0), FLOOR)
    reach = reach.astype(np.float64)
    samples = [w[:, :: -(-w.shape[1] // COLUMNS)] for w in weights]
    shares = [float(w.shape[1] / s.shape[1]) for w, s in zip(weights, samples, strict=True)]

    def error(factors: np.ndarray) -> float:
        each = zip(samples, shares, grids, strict=True)
        return sum(n * _error(w, factors, energy, gram, grid) for w, n, grid in each)

    limit, best = LEAST_GAIN * error(np.ones(len(size), np.float32)), None
    tried = []
    for alpha in alphas:
        for against in (np.ones_like(reach), reach):
            factors = balanced(size**alpha / against ** (1 - alpha))
            tried.append(factors.astype(np.float32))
    for factors, left in zip(tried, ordered_map(error, tried, threads), strict=True):
        if left < limit:
            limit, best = left, factors
    return best


def _error(
    weight: np.ndarray, factors: np.ndarray, energy: np.ndarray, gram: np.ndarray, grid: Grid
) -> float:
    scaled = np.asarray(weight * factors[:, np.newaxis], np.float32)
    importance = energy / factors.astype(np.float64) ** 2
    params = fitted_params(scaled, grid.bits, grid.group, grid.symmetric, importance)
    codes = to_codes(scaled, params, grid.bits, grid.group)
    wrong = weight - from_codes(codes, params, grid.group) / factors[:, np.newaxis]
    return output_error(wrong, gram)


def request(model: ir.Model) -> StatisticRequest:
    """The Gram matrices of all that could be scaled."""
    reads = product_reads(model.graph)
    return {read.name: {_GRAM: partial(Gram, axis=read.axis)} for read in reads}


def find(
    model: ir.Model, statistics: Statistics, granularity: str | None = None
) -> dict[str, np.ndarray]:
    """Factors for codes of 4 bits, each group of channels on its own.

    Args:
        model: the canonical float graph; not changed.
        statistics: what ``request`` asked for.
        granularity: of the scales: ``group:N``, or one a column; None for groups of 32.
    """
    _, _, size = (granularity or "group:32").partition("group:")
    found = {}
    for read in product_reads(model.graph):
        gram = statistics[read.name][_GRAM]
        assert isinstance(gram, Gram)
        if not gram.rows:
            continue
        weights = read.matrices()
        grids = [Grid(4, int(size or read.group.channels))] * len(weights)
        factors = best_factors(gram.matrix / gram.rows, weights, grids)
        if factors is not None:
            found[read.key] = factors
    return found
