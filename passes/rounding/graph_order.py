"""Rounds weights and corrects biases in one walk, each layer behind a prefix that is final."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx_ir as ir

from qcompile.core.budget import Budget
from qcompile.core.executor import Executor
from qcompile.core.plan import QuantPlan
from qcompile.core.statistics.base import Statistics
from qcompile.core.target import Target
from qcompile.core.units import Unit, units
from qcompile.passes.rounding.bias_correction import BiasCorrector
from qcompile.passes.rounding.gptq import damped, gptq, weighted_error
from qcompile.passes.rounding.gram import gram
from qcompile.passes.rounding.layer import Layer, layer_of
from qcompile.passes.rounding.prefix import QuantizedPrefix, cut
from qcompile.passes.rounding.reconstruct import descend
from qcompile.passes.rounding.walk import walk

Rounder = Literal["nearest", "gptq", "reconstruct"]


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
    weight is rounded so that its output changes least on them (``gptq``, ``reconstruct``), where
    a bias is corrected up to the mean; then its bias is corrected for those integers; then it runs.
    An output whose error is not smaller than with the nearest integers keeps those.

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
    layers: dict[ir.Node, Layer | str] = {}
    if rounder != "nearest":
        plan.rounded = {}
        names = [u for u in units(model.graph, plan) if u.weight is not None]
        layers = {u.node: layer_of(u, plan, target) for u in names}
    taken = [node for node, layer in layers.items() if isinstance(layer, Layer)]
    found.left = {n.name or "": why for n, why in layers.items() if isinstance(why, str)}
    open_layers = len(taken)

    def visit(unit: Unit, prefix: QuantizedPrefix) -> None:
        nonlocal open_layers
        layer = layers.get(unit.node)
        if isinstance(layer, Layer):
            is_corrected = corrector is not None and corrector.will_correct(unit)
            share = None if budget is None else budget.share(1 / open_layers)
            found.errors[unit.node.name or ""] = _round(
                layer, plan, prefix, target, rounder, is_corrected, threads, share
            )
            open_layers -= 1
        if corrector is not None:
            corrector.correct(unit, prefix)

    walk(model, plan, cut(model.graph, plan, taken), executor, feeds, visit, threads, advance)
    return found


def _round(
    layer: Layer,
    plan: QuantPlan,
    prefix: QuantizedPrefix,
    target: Target,
    rounder: Rounder,
    is_corrected: bool,
    threads: int,
    budget: Budget | None,
) -> tuple[float, float]:
    """Store the integers of one layer where they are better than the nearest; both errors."""
    hessian = _hessian(layer, plan, prefix, is_corrected, threads)
    chosen = gptq(layer.steps, hessian, layer.bounds)
    if rounder == "reconstruct":
        chosen = descend(layer.steps, chosen, damped(hessian), layer.bounds, budget)
    nearest = weighted_error(layer.steps - layer.nearest, hessian)
    error = weighted_error(layer.steps - chosen, hessian)
    kept = (error < nearest) & ~layer.at_risk(chosen, target)
    if kept.any():
        chosen = np.where(kept[:, np.newaxis], chosen, layer.nearest)
        plan.rounded[layer.entry.name] = layer.stored(chosen)
    return float(nearest.sum()), float(np.where(kept, error, nearest).sum())


def _hessian(
    layer: Layer, plan: QuantPlan, prefix: QuantizedPrefix, is_corrected: bool, threads: int
) -> np.ndarray:
    x = layer.unit.node.inputs[0]
    assert x is not None
    samples, zero = prefix.stored(x.name or "")
    found = gram(samples, zero, layer.unit.node, layer.kernel, layer.groups, layer.depth, threads)
    return found.scatter() if is_corrected else found.matrix
