"""SmoothQuant: a norm's outliers move from the activation into the weights that read it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.passes.transform import smoothing
from qcompile.passes.transform.apply import apply_factors
from qcompile.passes.transform.channels import find_groups
from qcompile.passes.transform.reads import Read
from qcompile.passes.transform.twin import split_off, with_twins

NAME: Final = "smooth"

ALPHAS: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the activation's range that are tried to be moved into the weights."""

LEAST_GAIN: Final = 0.95
"""Share of the error that may be left, or the group stays as it is."""


@dataclass(frozen=True)
class Smooth(ir.passes.InPlacePass):
    """Scale what MatMuls read by factors found before (Xiao et al. 2022).

    With X the output of a normalization or of a layer, and one number s a channel,

        X W = (X / s) (s W)

    1. Where only MatMul and Gemm with constant weights read X, ``1 / s`` goes into what makes X:
       gain and bias of the norm, or the weight of the layer (also through a product, as from the
       up projection of a gated MLP to its down projection).
    2. Where others read the output of a norm too (a residual behind a post-norm), the MatMuls get
       a twin of the norm with gain and bias divided by s; the others keep the first one. A Mul
       behind X would come too late: X would be quantized before it.

    The float function is kept but for the rounding of the new constants. Left alone: what other
    ops read, weights that are shared or on an integer grid, and the widest values where the Gram
    matrices of all would take more than ``ELEMENTS``.

    Args:
        factors: name of X -> s, float32 (channels,); QCompileError(BAD_PLAN) when there is no such
            value in the graph.
    """

    factors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply what was not applied to this graph before."""
        twins = split_off(model.graph, self.factors, NAME)
        changed = apply_factors(model, NAME, self.factors, twins)
        return ir.passes.PassResult(model, changed or bool(twins))


def request(model: ir.Model) -> StatisticRequest:
    """The statistics that ``find`` needs of what each group of MatMuls reads."""
    return smoothing.request(_reads(model))


def find(
    model: ir.Model, statistics: Statistics, granularity: str | None = None
) -> dict[str, np.ndarray]:
    """Find the factors, each group on its own.

    ``s = max|X|**alpha / max|W|**(1 - alpha)`` a channel, for the alpha of ``ALPHAS`` that leaves
    the least error in the layers' outputs (``smoothing.Trial``), or none where nothing is better.
    No sample is run for it.

    Args:
        model: the canonical float graph; not changed.
        statistics: what ``request`` asked for.
        granularity: of the weights' scales, ``tensor`` or else ``channel``.

    Returns:
        Name of X -> s, float32 (channels,); groups that gain nothing are left out.
    """
    found = {}
    for read in _reads(model):
        trial = smoothing.trial_of(read, statistics, granularity)
        factors = None if trial is None else trial.best(map(trial.shared, ALPHAS), LEAST_GAIN)
        if factors is not None:
            found[read.key] = factors.astype(np.float32)
    return found


def changed_values(model: ir.Model, factors: Iterable[str]) -> set[str]:
    """Names of the values that differ, or are new, after these groups were smoothed.

    Twins carry names that the model before the transform, which is the one to give, has not.
    """
    clone, names = model.clone(), list(factors)
    twins = split_off(clone.graph, names, NAME)
    wanted = {twins.get(name, name) for name in names}
    groups = (group for group in find_groups(clone.graph) if group.key in wanted)
    return {value.name or "" for group in groups for value, _ in group.values}


def _reads(model: ir.Model) -> list[Read]:
    """The groups that MatMuls read, twins of norms that are read elsewhere too included."""
    split, twins = with_twins(model)
    return smoothing.reads(split.graph, twins)
