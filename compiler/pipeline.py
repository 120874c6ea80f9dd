"""The way of a model, readable top to bottom; the pass lists stand here and nowhere else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler.calibration.collect import collect
from qcompile.compiler.importers.onnx import Imported
from qcompile.compiler.options import Scheme
from qcompile.compiler.progress import Progress
from qcompile.compiler.quantizing import quantize
from qcompile.compiler.runner import PassObserver, run_passes
from qcompile.compiler.samples import Remembered
from qcompile.compiler.saved_plan import fit_plan
from qcompile.compiler.scoring import Scorer
from qcompile.core import graph as g
from qcompile.core.executor import Executor
from qcompile.core.notes import Note
from qcompile.core.numerics.affine import storage_type
from qcompile.core.parallel import ordered_map
from qcompile.core.plan import QuantPlan
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.target import FLOAT_SCHEMES, Target
from qcompile.passes.plan.activations import choose_activations, range_request
from qcompile.passes.plan.assign import assign_dynamic, assign_static
from qcompile.passes.plan.bias_range import fit_biases
from qcompile.passes.plan.ranges.table import RANGE_METHODS
from qcompile.passes.plan.safe_weights import SaturationCount, make_weights_safe
from qcompile.passes.plan.scale_ratios import fit_scale_ratios
from qcompile.passes.plan.shared_groups import resolve_shared
from qcompile.passes.plan.values import plan_values
from qcompile.passes.plan.weights import choose_weights
from qcompile.passes.prepare.add_bias import AddBias
from qcompile.passes.prepare.cancel_transposes import CancelTransposes
from qcompile.passes.prepare.fold_affine import FoldAffine
from qcompile.passes.prepare.fold_batch_norm import FoldBatchNorm
from qcompile.passes.prepare.fold_constants import FoldConstants
from qcompile.passes.prepare.fold_pad import FoldPad
from qcompile.passes.prepare.global_average_pool import ReduceMeanToGlobalAveragePool
from qcompile.passes.prepare.merge_duplicates import MergeDuplicates
from qcompile.passes.prepare.recognize_gelu import RecognizeGelu
from qcompile.passes.prepare.recognize_hard_swish import RecognizeHardSwish
from qcompile.passes.prepare.recognize_layer_norm import RecognizeLayerNorm
from qcompile.passes.prepare.recognize_silu import RecognizeSilu
from qcompile.passes.prepare.remove_no_ops import RemoveNoOps
from qcompile.passes.prepare.remove_unused import RemoveUnused
from qcompile.passes.prepare.simplify_clip import SimplifyClip
from qcompile.passes.prepare.split_shared import SplitShared
from qcompile.passes.prepare.sub_to_add import SubToAdd
from qcompile.passes.prepare.unflatten_softmax import UnflattenSoftmax
from qcompile.passes.rounding.bias_correction import correct_biases, mean_request

Feeds = Mapping[str, np.ndarray]

CORRECTION_SAMPLES: Final = (8, 128)
"""Fewest and most samples whose means bias correction matches, where there are so many."""

CORRECTION_BYTES: Final = 112 << 20
"""Bytes that the live activations of those samples may take; that decides how many there are."""

TRIAL_SAMPLES: Final = 16
"""Samples on which a step that can hurt is tried before it is kept."""


def prepare_passes() -> list[ir.passes.PassBase]:
    """Passes that keep the float function and bring the graph into canonical form."""
    return [
        FoldConstants(),
        RemoveNoOps(),
        MergeDuplicates(),
        SimplifyClip(),
        RecognizeHardSwish(),
        RecognizeGelu(),
        RecognizeLayerNorm(),
        RecognizeSilu(),
        ReduceMeanToGlobalAveragePool(),
        UnflattenSoftmax(),
        CancelTransposes(),
        FoldPad(),
        FoldBatchNorm(),
        FoldAffine(),
        SubToAdd(),
        SplitShared(),
        AddBias(),
        RemoveUnused(),
    ]


@dataclass(frozen=True)
class Compiled:
    """What the graph passes made of a float model."""

    model: ir.Model
    """The canonical float graph."""
    plan: QuantPlan
    qdq: ir.Model
    saturation: SaturationCount
    notes: tuple[Note, ...]


def prepare(imported: Imported, scheme: Scheme, observer: PassObserver | None = None) -> ir.Model:
    """Bring an imported model into canonical form, in place."""
    run_passes(imported.model, prepare_passes(), observer=observer, dump_dir=scheme.dump_dir)
    return imported.model


def empty_plan(
    model: ir.Model, target: Target, scheme: Scheme, float_nodes: Mapping[str, str]
) -> QuantPlan:
    """Decide which nodes become integer, and which values need parameters."""
    plan = QuantPlan(g.fingerprint(model), target.name, scheme.scheme, ends=scheme.ends)
    if scheme.scheme not in FLOAT_SCHEMES:
        assign = assign_dynamic if scheme.scheme == "w8a8-dynamic" else assign_static
        plan.nodes = assign(model.graph, target, float_nodes).nodes
        plan_values(model.graph, plan, target)
    return plan


def compile_graph(
    model: ir.Model,
    target: Target,
    scheme: Scheme,
    executor: Executor,
    feeds: Sequence[Feeds],
    progress: Progress,
    float_nodes: Mapping[str, str],
) -> Compiled:
    """Plan and quantize a canonical float graph.

    Args:
        model: the canonical float graph; kept as it is.
        target: what the artefact is for.
        scheme: what is asked for.
        executor: runs float and quantized graphs, with exact integer sums.
        feeds: calibration samples, in an order that is as good as random; read lazily.
        progress: told of each stage.
        float_nodes: node name -> why it must stay float.
    """
    plan = empty_plan(model, target, scheme, float_nodes)
    feeds = Remembered(feeds, correction_samples(model, plan, len(feeds)))
    statistics = _calibrate(model, plan, target, scheme, executor, feeds, progress)
    with progress.stage("plan"):
        saturation, notes = complete(model, plan, target, scheme, statistics)
    notes += _correct(model, plan, scheme, executor, feeds, statistics, progress)
    with progress.stage("quantize"):
        qdq = quantize(model, plan)
    return Compiled(model, plan, qdq, saturation, tuple(notes))


def complete(
    model: ir.Model, plan: QuantPlan, target: Target, scheme: Scheme, statistics: Statistics
) -> tuple[SaturationCount, list[Note]]:
    """Set every parameter of a plan: activations, weights, safety of sums, biases."""
    method = RANGE_METHODS[scheme.ranges]()
    choose_activations(model.graph, plan, target, method, scheme.ranges, statistics)
    choose_weights(model.graph, plan, target, scheme.granularity)
    return _prove_safe(model, plan, target, scheme)


def _prove_safe(
    model: ir.Model, plan: QuantPlan, target: Target, scheme: Scheme
) -> tuple[SaturationCount, list[Note]]:
    """Make every scale one that the kernels take, and every sum one that fits."""
    raised = fit_scale_ratios(model.graph, plan, target)
    raised += fit_biases(model.graph, plan, target.sum_bits)
    saturation = make_weights_safe(model.graph, plan, target, scheme.granularity)
    raised += fit_scale_ratios(model.graph, plan, target)
    raised += fit_biases(model.graph, plan, target.sum_bits)
    return saturation, [Note("info", sentence) for sentence in raised]


def replay(
    model: ir.Model,
    plan: QuantPlan,
    target: Target,
    scheme: Scheme,
    float_nodes: Mapping[str, str],
) -> Compiled:
    """Quantize a canonical float graph by a saved plan; nothing is measured.

    What follows from other entries (shared and derived parameters) is worked out again, and the
    proofs of sums and biases are made again, since entries may have been edited.

    Raises:
        QCompileError: PLAN_MISMATCH or BAD_PLAN, see ``saved_plan.fit_plan``.
    """
    expected = empty_plan(model, target, scheme, float_nodes)
    notes = fit_plan(plan, expected, model.graph, target)
    resolve_shared(plan)
    saturation, raised = _prove_safe(model, plan, target, scheme)
    return Compiled(model, plan, quantize(model, plan), saturation, (*notes, *raised))


def _calibrate(
    model: ir.Model,
    plan: QuantPlan,
    target: Target,
    scheme: Scheme,
    executor: Executor,
    feeds: Sequence[Feeds],
    progress: Progress,
) -> Statistics:
    """Gather the ranges of activations and the mean inputs of layers in one run of the samples."""
    if not scheme.needs_data:
        return {}
    request: StatisticRequest = range_request(
        model.graph, plan, target, RANGE_METHODS[scheme.ranges]()
    )
    samples = correction_samples(model, plan, len(feeds))
    for name, wanted in mean_request(model.graph, plan, samples).items():
        request[name] = {**request.get(name, {}), **wanted}
    if not request:
        return {}
    with progress.stage("calibrate", len(feeds)) as counter:
        return collect(
            executor,
            model,
            request,
            feeds,
            threads=scheme.threads,
            progress=lambda _: counter.advance(),
        )


def correction_samples(model: ir.Model, plan: QuantPlan, available: int) -> int:
    """How many samples bias correction can hold at once.

    A sample's share is its inputs in float and, where the graph is widest, what goes in and what
    comes out of a layer as integers. Unknown dimensions count as 1.
    """
    kinds = {entry.dtype for entry in plan.values.values() if entry.role == "activation"}
    width = max((storage_type(kind).itemsize for kind in kinds), default=1)
    widest = max((_elements(v) for node in model.graph for v in node.outputs), default=0)
    share = 4 * sum(map(_elements, model.graph.inputs)) + 2 * width * widest
    fewest, most = CORRECTION_SAMPLES
    return min(available, max(fewest, min(most, CORRECTION_BYTES // max(share, 1))))


def _elements(value: ir.Value) -> int:
    if value.shape is None:
        return 0
    return math.prod(d if isinstance(d, int) else 1 for d in value.shape)


def _correct(
    model: ir.Model,
    plan: QuantPlan,
    scheme: Scheme,
    executor: Executor,
    feeds: Remembered,
    statistics: Statistics,
    progress: Progress,
) -> list[Note]:
    """Correct the biases in graph order; keep it if the outputs come closer to float."""
    if not statistics:
        return []
    count = correction_samples(model, plan, len(feeds))
    with progress.stage("correct biases"):
        samples = ordered_map(lambda i: feeds[i], range(count), scheme.threads)
        correct_biases(model, plan, executor, samples, statistics, threads=scheme.threads)
        del samples
        feeds.forget()
    if not plan.corrections:
        return []
    with progress.stage("try the correction"):
        # Samples that the means were not taken from, where there are enough of them.
        rest = range(count, len(feeds)) if len(feeds) - count >= 4 else range(count)
        trial = [feeds[i] for i in rest[:TRIAL_SAMPLES]]
        scorer = Scorer(model, executor, trial, scheme.threads)
        before, after = scorer.score(replace(plan, corrections={})), scorer.score(plan)
    if after > before:
        return [
            Note("info", f"bias correction: outputs {before:.1f} dB before, {after:.1f} dB after")
        ]
    plan.corrections = {}
    return [Note("info", f"bias correction dropped: {before:.1f} dB before, {after:.1f} dB after")]
