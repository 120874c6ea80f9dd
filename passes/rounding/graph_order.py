"""Rounds weights and corrects biases in one walk, each layer behind a prefix that is final."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
import onnx_ir as ir

from qcompile.core.budget import Budget
from qcompile.core.executor import Executor
from qcompile.core.numerics.affine import LIMITS
from qcompile.core.plan import QuantPlan
from qcompile.core.statistics.base import Statistics
from qcompile.core.target import Target
from qcompile.core.units import Unit, units
from qcompile.passes.plan.bias_range import is_proven
from qcompile.passes.rounding.bias_correction import BiasCorrector
from qcompile.passes.rounding.drift import drift, shifted
from qcompile.passes.rounding.gptq import gptq, strongest_first, weighted_error
from qcompile.passes.rounding.gram import gram
from qcompile.passes.rounding.layer import Layer, layer_of
from qcompile.passes.rounding.prefix import QuantizedPrefix, cut
from qcompile.passes.rounding.reconstruct import reconstruct
from qcompile.passes.rounding.walk import walk

Rounder = Literal["nearest", "gptq", "reconstruct"]

_LOW_BITS: Final = 4
"""Up to so many bits of its weights a layer makes up for the drift of its inputs."""


@dataclass
class Rounding:
    """What a rounding came to, for the report."""

    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Node name -> energy of the output's error by its weights, nearest and as chosen, in steps."""
    left: dict[str, str] = field(default_factory=dict)
    """Node name -> why its weight keeps the nearest integers."""


def round_and_correct(
    model: ir.Model,
    plan: QuantPlan,
    executor: Executor,
    feeds: Sequence[Mapping[str, np.ndarray]],
    statistics: Statistics,
    *,
    target: Target,
    rounder: Rounder,
    threads: int = 1,
    advance: Callable[[], None] = lambda: None,
    budget: Budget | None = None,
) -> Rounding:
    """Choose the integers of every weight, and then correct the biases for them, in graph order.

    Before a layer runs, the samples have been through everything before it as it will ship. Its
    weight is rounded so that its output changes least on them, where a bias is corrected up to the
    mean; then its bias is corrected for those integers; then it runs. An output whose error is not
    smaller than with the nearest integers keeps those, and so does one whose sums could saturate.

    ``gptq`` is GPTQ; ``reconstruct`` looks further from its solutions (coordinate descent), and
    with weights of few bits aims at the float output rather than at that of the float weights; the
    float graph then runs along, with its activations in memory as well.

    Args:
        model: the canonical float graph; not changed.
        plan: with all parameters set. Its corrections are replaced, and with a rounder other than
            ``nearest`` its rounded integers.
        executor: runs the pieces, with exact integer sums.
        feeds: the very samples whose float means were gathered.
        statistics: holds what ``bias_correction.mean_request`` asked for; where it is empty no bias
            is corrected.
        target: its kernels' sums must not saturate.
        rounder: ``nearest`` leaves the weights as they are.
        threads: samples are spread over so many threads; the result does not depend on it.
        advance: called after each piece.
        budget: of ``reconstruct``; the sooner it is spent, the more layers get no more than GPTQ.
    """
    corrector = BiasCorrector(model, plan, executor, statistics, len(feeds)) if statistics else None
    found = Rounding()
    layers: dict[ir.Node, Layer] = {}
    if rounder != "nearest":
        plan.rounded = {}
        for unit in units(model.graph, plan):
            layer = layer_of(unit, plan, target) if unit.weight is not None else None
            if isinstance(layer, Layer):
                layers[unit.node] = layer
            elif layer is not None:
                found.left[unit.node.name or ""] = layer
    beside = None
    if rounder == "reconstruct" and any(map(_is_low_bit, layers.values())):
        floats = replace(plan, nodes={}, values={})
        opsets = dict(model.graph.opset_imports)
        beside = QuantizedPrefix(model.graph, floats, executor, feeds, threads, opsets)
    chooser = _Chooser(plan, target, rounder, threads, budget or Budget(), beside, len(layers))

    def visit(unit: Unit, prefix: QuantizedPrefix) -> None:
        layer = layers.pop(unit.node, None)
        if layer is not None:
            is_corrected = corrector is not None and corrector.will_correct(unit)
            found.errors[unit.node.name or ""] = chooser.round(layer, prefix, is_corrected)
        if corrector is not None:
            corrector.correct(unit, prefix)

    pieces = cut(model.graph, plan, frozenset(layers))
    walk(model, plan, pieces, executor, feeds, visit, threads, advance, beside=beside)
    return found


def _is_low_bit(layer: Layer) -> bool:
    low, high = LIMITS[layer.entry.dtype]
    return high - low < 2**_LOW_BITS


@dataclass
class _Chooser:
    """Chooses the integers of one layer after the other."""

    plan: QuantPlan
    target: Target
    rounder: Rounder
    threads: int
    budget: Budget
    beside: QuantizedPrefix | None
    """The float graph at the same point, where it is needed."""
    waiting: int
    """Layers that are still to come; each may take its share of the budget."""

    def round(
        self, layer: Layer, prefix: QuantizedPrefix, is_corrected: bool
    ) -> tuple[float, float]:
        """Store the integers of a layer where they are better than the nearest; both errors."""
        node = layer.unit.node
        source = node.inputs[0]
        name = "" if source is None else source.name or ""
        stored, zero = prefix.stored(name, node.name)
        sums = gram(stored, zero, node, layer.kernel, layer.groups, layer.depth, self.threads)
        hessian = sums.scatter() if is_corrected else sums.matrix
        wanted = layer.steps
        entry = self.plan.quantized(self.plan.seen_by(node.name, name))
        if self.beside is not None and entry is not None and _is_low_bit(layer):
            assert entry.params is not None
            drifted = drift(
                stored,
                zero,
                self.beside.stored(name)[0],
                float(entry.params.scale),
                node,
                layer.kernel,
                layer.groups,
                layer.depth,
                centred=is_corrected,
            )
            wanted = shifted(wanted, hessian, drifted)
        return self._store(layer, wanted, hessian, self._chosen(layer, wanted, hessian))

    def _chosen(self, layer: Layer, wanted: np.ndarray, hessian: np.ndarray) -> np.ndarray:
        share = self.budget.share(1 / max(self.waiting, 1))
        self.waiting -= 1
        if self.rounder == "reconstruct":
            return reconstruct(wanted, hessian, layer.bounds, share)
        return gptq(wanted, hessian, layer.bounds, strongest_first(hessian))

    def _store(
        self, layer: Layer, wanted: np.ndarray, hessian: np.ndarray, chosen: np.ndarray
    ) -> tuple[float, float]:
        nearest = weighted_error(wanted - layer.nearest, hessian)
        error = weighted_error(wanted - chosen, hessian)
        kept = (error < nearest) & ~layer.at_risk(chosen, self.target)
        before = float(nearest.sum())
        if not kept.any():
            return before, before
        integers = layer.stored(np.where(kept[:, np.newaxis], chosen, layer.nearest))
        self.plan.rounded[layer.entry.name] = integers
        if not is_proven(layer.unit, self.plan, self.target.sum_bits):
            del self.plan.rounded[layer.entry.name]
            return before, before
        return before, float(np.where(kept, error, nearest).sum())
