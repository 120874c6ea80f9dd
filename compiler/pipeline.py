"""The way of a model, readable top to bottom; the pass lists stand here and nowhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from qcompile.compiler.caches import expect_caches
from qcompile.compiler.calibration.gather import gather
from qcompile.compiler.encodings.quantized import Kept, ModelScales, scales_of, wide_biases
from qcompile.compiler.importers.onnx import Imported
from qcompile.compiler.options import Scheme
from qcompile.compiler.planning import complete, empty_plan, prove_safe
from qcompile.compiler.progress import Progress
from qcompile.compiler.quantizing import quantize
from qcompile.compiler.report.mixed import Mixed, MixedTimes
from qcompile.compiler.runner import PassObserver, run_passes
from qcompile.compiler.saved_plan import fit_plan
from qcompile.compiler.search.efforts import SEARCHES
from qcompile.compiler.search.recipe import Trial
from qcompile.compiler.search.tails import tail_notes
from qcompile.compiler.search.tokens import search_tokens
from qcompile.compiler.search.weights_only import search_stored
from qcompile.compiler.search.workshop import Job, Remake
from qcompile.core import graph as g
from qcompile.core.budget import Budget
from qcompile.core.executor import Executor, Feeds
from qcompile.core.notes import Note
from qcompile.core.plan import QuantPlan, chosen_nodes
from qcompile.core.statistics.base import Statistics
from qcompile.core.target import Target
from qcompile.passes.plan.codebooks import squares_request
from qcompile.passes.plan.safe_weights import SaturationCount
from qcompile.passes.plan.shared_groups import resolve_shared
from qcompile.passes.prepare.add_bias import AddBias
from qcompile.passes.prepare.cancel_transposes import CancelTransposes
from qcompile.passes.prepare.drop_zero_state import DropZeroState
from qcompile.passes.prepare.fold_affine import FoldAffine
from qcompile.passes.prepare.fold_batch_norm import FoldBatchNorm
from qcompile.passes.prepare.fold_constants import FoldConstants
from qcompile.passes.prepare.fold_pad import FoldPad
from qcompile.passes.prepare.forget_grids import ForgetGrids
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
from qcompile.passes.prepare.square_to_mul import SquareToMul
from qcompile.passes.prepare.sub_to_add import SubToAdd
from qcompile.passes.prepare.sum_to_add import SumToAdd
from qcompile.passes.prepare.take_out_qdq import TakeOutQDQ
from qcompile.passes.prepare.unflatten_softmax import UnflattenSoftmax
from qcompile.passes.prepare.unroll_recurrent import UnrollRecurrent
from qcompile.passes.rounding.stored_choice import resolve_tied
from qcompile.passes.transform.table import transformed

UNLIMITED: Final = Budget()
"""As much time as a search likes."""


def prepare_passes(unroll: int = 0) -> list[ir.passes.PassBase]:
    """Passes that keep the float function and bring the graph into canonical form.

    ``unroll``: the longest sequence of an LSTM or GRU that is written out step by step.
    """
    return [
        FoldConstants(),
        DropZeroState(),
        *([UnrollRecurrent(unroll)] if unroll else []),
        SumToAdd(),
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
        SquareToMul(),
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
    ranges: str = ""
    """The range method of its activations; empty where none was used."""
    tried: tuple[Trial, ...] = ()
    """What each step of the search bought."""
    mixed: Mixed | None = None
    """Which layers cost what, and the budgets; None when neither was asked for."""
    mixed_times: MixedTimes | None = None
    kept: Kept | None = None
    """What a plan has of the scales that its model came with, where it is quantized already."""
    own: QuantPlan | None = None
    """Those scales alone: the model as it came."""
    remake: Remake | None = None
    """Makes the plan again with other nodes float; until budgets have been looked at."""


def prepare(
    imported: Imported,
    scheme: Scheme,
    observer: PassObserver | None = None,
    *,
    unroll: int = 0,
) -> ir.Model:
    """Bring an imported model into canonical form, in place; ``unroll`` is the target's."""
    model, _ = prepare_with_scales(imported, scheme, observer, unroll=unroll)
    return model


def prepare_with_scales(
    imported: Imported,
    scheme: Scheme,
    observer: PassObserver | None = None,
    *,
    unroll: int = 0,
    requantize: bool = False,
) -> tuple[ir.Model, ModelScales | None]:
    """As ``prepare``; and what a model that is quantized already says of its values.

    Its quantizers stand in the way of every fold until the end, so that what they say is still
    there; with ``requantize`` they go first, and what they say with them.
    """
    model = imported.model
    passes = prepare_passes(unroll)
    if not is_quantized(model):
        run_passes(model, passes, observer=observer, dump_dir=scheme.dump_dir)
        return model, None
    take_out, biases = TakeOutQDQ(), wide_biases(model)
    passes = (
        [FoldConstants(), take_out, ForgetGrids(), *passes]
        if requantize
        else [*passes, take_out, RemoveUnused()]
    )
    run_passes(model, passes, observer=observer, dump_dir=scheme.dump_dir)
    if requantize:
        return model, None
    return model, scales_of(model, take_out.stated, _name(imported), biases, take_out.kept)


def _name(imported: Imported) -> str:
    return imported.name or (imported.files[0].name if imported.files else "the model")


def is_quantized(model: ir.Model) -> bool:
    """Whether an imported model gives activations scales."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph)


def compile_graph(
    model: ir.Model,
    target: Target,
    scheme: Scheme,
    executor: Executor,
    feeds: Sequence[Feeds],
    progress: Progress,
    float_nodes: Mapping[str, str],
    budget: Budget = UNLIMITED,
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
        budget: how long the search may take; it runs already.
    """
    if scheme.tokens:
        job = Job(model, target, scheme, executor, feeds, progress, float_nodes, budget)
        made = search_tokens(job)
        qdq = quantize(made.model, made.plan)
        return Compiled(made.model, made.plan, qdq, made.saturation, made.notes, tried=made.trials)
    if scheme.weight_bits and scheme.weights == "int":
        job = Job(model, target, scheme, executor, feeds, progress, float_nodes, budget)
        stored = search_stored(job)
        qdq, count = quantize(stored.model, stored.plan), SaturationCount()
        return Compiled(stored.model, stored.plan, qdq, count, stored.notes, tried=stored.trials)
    if not scheme.needs_data:
        plan = empty_plan(model, target, scheme, float_nodes)
        squares: Statistics = {}
        if plan.weights != "int" and len(feeds):
            wanted = squares_request(model.graph, plan)
            squares = gather(executor, model, wanted, feeds, progress, threads=scheme.threads)
        saturation, notes = complete(model, plan, target, scheme, squares)
        return Compiled(model, plan, quantize(model, plan), saturation, tuple(notes))
    job = Job(model, target, scheme, executor, feeds, progress, float_nodes, budget)
    found = SEARCHES[scheme.effort](job)
    best = found.best
    with progress.stage("quantize"):
        qdq = quantize(best.model, best.plan)
    return Compiled(
        best.model,
        best.plan,
        qdq,
        best.saturation,
        (*best.notes, *tail_notes(model.graph, target, best.plan)),
        best.recipe.ranges,
        tuple(found.trials),
        remake=Remake(found.shop, best),
    )


def replay(
    model: ir.Model,
    plan: QuantPlan,
    target: Target,
    scheme: Scheme,
    float_nodes: Mapping[str, str],
) -> Compiled:
    """Quantize a canonical float graph by a saved plan; nothing is measured.

    The plan's transforms are applied first: its entries are those of the graph behind them. What
    follows from other entries (shared and derived parameters) is worked out again, and the
    proofs of sums and biases are made again, since entries may have been edited.

    Raises:
        QCompileError: PLAN_MISMATCH or BAD_PLAN, see ``saved_plan.fit_plan``.
    """
    fingerprint = g.fingerprint(model)
    if plan.fingerprint == fingerprint:  # else fit_plan says what it was made for
        model = transformed(model, plan.transforms)
    expected = empty_plan(model, target, scheme, float_nodes, chosen_nodes(plan))
    expected.fingerprint = fingerprint
    if plan.attention or scheme.kv:
        expect_caches(model, expected, plan, target, scheme.kv)
    notes = fit_plan(plan, expected, model.graph, target)
    resolve_shared(plan)
    resolve_tied(plan)
    saturation, raised = prove_safe(model, plan, target, scheme)
    return Compiled(model, plan, quantize(model, plan), saturation, (*notes, *raised))
