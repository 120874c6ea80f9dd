"""SmoothQuant: a norm's outliers move from the activation into the weights that read it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.statistics.channel_absmax import ChannelAbsMax
from qcompile.core.statistics.gram import Gram
from qcompile.passes.prepare.edit import is_op
from qcompile.passes.transform.apply import apply_factors
from qcompile.passes.transform.channels import Group, find_groups
from qcompile.passes.transform.twin import split_off, with_twins

NAME: Final = "smooth"
ABSMAX: Final = "channel absmax"
GRAM: Final = "gram"

ALPHAS: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the activation's range that are tried to be moved into the weights."""

LEAST_GAIN: Final = 0.95
"""Share of the error that may be left, or the group stays as it is."""

ELEMENTS: Final = 100 << 20
"""Elements of all Gram matrices together (float32, a few partial sums of each)."""

COLUMNS: Final = 1024
"""Most output channels that an alpha is judged by, evenly spread over those of all readers."""

FLOOR: Final = 1e-5
"""Smallest range of a channel, relative to the largest one."""


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
    return {
        read.name: {
            ABSMAX: partial(ChannelAbsMax, axis=read.axis),
            GRAM: partial(Gram, axis=read.axis),
        }
        for read in _reads(model)
    }


def find(
    model: ir.Model,
    statistics: Statistics,
    granularity: str | None = None,
    *,
    activation_steps: int = 255,
    weight_steps: int = 127,
) -> dict[str, np.ndarray]:
    """Find the factors, each group on its own.

    ``s = max|X|**alpha / max|W|**(1 - alpha)`` a channel, for the alpha of ``ALPHAS`` that leaves
    the least error in the layers' outputs, or none where nothing is better:

        error = sum over c of min(d**2 / 12, G_cc / s_c**2) |s_c W_c|**2  +  trace(E' G E)

    d the step of ``X / s`` with one scale for all of it (a channel that lies inside one step is
    lost, no more), E the rounding error of ``s W`` over s, and ``G = X' X / rows``: noise of the
    activation, and of the weights on the inputs that occur. No sample is run for it.

    Args:
        model: the canonical float graph; not changed.
        statistics: what ``request`` asked for.
        granularity: of the weights' scales, ``tensor`` or else ``channel``.
        activation_steps: steps of an activation's range.
        weight_steps: steps of a weight's magnitude.

    Returns:
        Name of X -> s, float32 (channels,); groups that gain nothing are left out.
    """
    found = {}
    for read in _reads(model):
        gathered = statistics[read.name]
        absmax, gram = gathered[ABSMAX], gathered[GRAM]
        assert isinstance(absmax, ChannelAbsMax)
        assert isinstance(gram, Gram)
        if gram.rows and absmax.absmax.any():
            trial = _Trial(
                _floored(absmax.absmax.astype(np.float64)),
                gram.matrix.astype(np.float64) / gram.rows,
                read.largest(),
                read.columns(),
                activation_steps,
                weight_steps,
                granularity == "tensor",
            )
            factors = trial.best()
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


@dataclass(frozen=True, eq=False)
class _Read:
    """A group, and the one value that all its readers read."""

    group: Group
    key: str
    name: str
    axis: int

    def matrices(self) -> list[np.ndarray]:
        """The weights of all readers, (channels, output channels) each."""
        layers = [reader.layer for reader in self.group.readers]
        return [layer.weight if layer.out_axis == 2 else layer.weight.T for layer in layers]

    def largest(self) -> np.ndarray:
        """The largest magnitude of any weight that reads each channel, float64 (channels,)."""
        ranges = [np.maximum(w.max(axis=1), -w.min(axis=1)) for w in self.matrices()]
        return _floored(np.max(ranges, axis=0).astype(np.float64))

    def columns(self) -> np.ndarray:
        """At most ``COLUMNS`` output channels, evenly spread; float64 (channels, columns)."""
        matrices = self.matrices()
        step = -(-sum(w.shape[1] for w in matrices) // COLUMNS)
        return np.concatenate([w[:, ::step] for w in matrices], axis=1).astype(np.float64)


def _reads(model: ir.Model) -> list[_Read]:
    """The groups that MatMuls read, twins of norms that are read elsewhere too included."""
    split, twins = with_twins(model)
    source_of = {twin: norm for norm, twin in twins.items()}
    found = []
    for group in find_groups(split.graph):
        values = {reader.layer.node.inputs[0] for reader in group.readers}
        if group.faults or not (group.norms or group.writers) or len(values) != 1:
            continue
        if group.clips:
            continue
        plain = all(
            is_op(reader.layer.node, "MatMul", "Gemm")
            and np.array_equal(reader.index, np.arange(group.channels))
            for reader in group.readers
        )
        value = values.pop()
        lane = next((lane for v, lane in group.values if v is value), None)
        if plain and value is not None and lane is not None:
            key = source_of.get(group.key, group.key)
            name = source_of.get(value.name or "", value.name or "")
            found.append(_Read(group, key, name, lane.axis))
    return _held(found)


def _held(reads: list[_Read]) -> list[_Read]:
    """The narrowest ones whose Gram matrices can be held together, in graph order."""
    kept: set[str] = set()
    held = 0
    for read in sorted(reads, key=lambda read: read.group.channels):
        held += read.group.channels**2
        if held <= ELEMENTS:
            kept.add(read.key)
    return [read for read in reads if read.key in kept]


@dataclass(frozen=True, eq=False)
class _Trial:
    """What smoothing does to the outputs of one group of layers."""

    absmax: np.ndarray
    gram: np.ndarray
    largest: np.ndarray
    weights: np.ndarray
    activation_steps: int
    weight_steps: int
    one_scale: bool

    def best(self) -> np.ndarray | None:
        """The factors of the best alpha; None when no factors are better."""
        none = np.ones_like(self.absmax)
        candidates = [none, *(self._factors(alpha) for alpha in ALPHAS)]
        errors = [self.error(factors) for factors in candidates]
        best = int(np.argmin(errors))
        return candidates[best] if errors[best] < LEAST_GAIN * errors[0] else None

    def _factors(self, alpha: float) -> np.ndarray:
        factors = self.absmax**alpha / self.largest ** (1 - alpha)
        return np.asarray(factors / np.exp(np.log(factors).mean()))

    def error(self, factors: np.ndarray) -> float:
        """Expected squared error of the outputs, a row."""
        step = 2 * (self.absmax / factors).max() / self.activation_steps
        weights = self.weights * factors[:, np.newaxis]
        scales = np.abs(weights).max(axis=None if self.one_scale else 0) / self.weight_steps
        scales = np.maximum(scales, np.finfo(np.float64).tiny)
        rounding = weights - np.rint(weights / scales) * scales
        rounding /= factors[:, np.newaxis]
        on_inputs = np.sum(rounding * (self.gram @ rounding))
        noise = np.minimum(step * step / 12, np.diagonal(self.gram) / factors**2)
        return float(noise @ np.sum(weights * weights, axis=1) + on_inputs)


def _floored(ranges: np.ndarray) -> np.ndarray:
    """Ranges none of which is smaller than a small share of the largest."""
    return np.asarray(np.maximum(ranges, (ranges.max(initial=0.0) or 1.0) * FLOOR))
