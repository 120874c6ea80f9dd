"""The plan of a model that is quantized already: its scales as they are, the rest completed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from qcompile.compiler.encodings import quantized
from qcompile.compiler.encodings.importing import import_encodings
from qcompile.compiler.encodings.quantized import Kept, ModelScales
from qcompile.compiler.options import BuildOptions, Scheme
from qcompile.compiler.pipeline import Compiled
from qcompile.compiler.planning import complete, empty_plan
from qcompile.compiler.progress import Progress
from qcompile.compiler.quantizing import quantize
from qcompile.compiler.report.page import count, listed
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Executor, Feeds
from qcompile.core.notes import Note
from qcompile.core.plan import QuantPlan
from qcompile.core.statistics.base import Statistics
from qcompile.core.target import Target


def compile_quantized(
    model: ir.Model,
    scales: ModelScales,
    target: Target,
    scheme: Scheme,
    executor: Executor,
    feeds: Sequence[Feeds],
    progress: Progress,
    floats: Mapping[str, str],
) -> Compiled:
    """Plan and quantize a canonical float graph by the scales that its model came with.

    Nothing is searched for, rounded or corrected: what the model says is kept.

    Args:
        model: the canonical float graph, its quantizers taken out.
        scales: what they said.
        target: what the artefact is for.
        scheme: a static one.
        executor: runs the float graph, where ranges are missing.
        feeds: calibration samples; empty when there are none.
        progress: is told of each stage.
        floats: node name -> why it must stay float.

    Raises:
        QCompileError: NO_DATA where a range is missing and there are no samples.
    """
    scheme = replace(scheme, encodings=scales.given)
    plan = empty_plan(model, target, scheme, floats)
    quantized.derive(model.graph, plan, scales)
    own = replace(plan, values=dict(plan.values), ends="float")
    missing = quantized.missing(model.graph, plan, target)
    statistics: Statistics = {}
    ranges = scheme.ranges or "minmax"
    if missing and not feeds:
        raise _no_ranges(missing, scales)
    if missing:
        with progress.stage("calibrate what has no scale"):
            statistics = quantized.measured(
                model, plan, target, ranges, executor, feeds, scheme.threads
            )
    saturation, notes = complete(model, plan, target, scheme, statistics)
    quantized.keep_biases(model.graph, plan, scales)
    found = quantized.kept(model.graph, plan, scales, _refused(model, plan, scales, target))
    return Compiled(
        model,
        plan,
        quantize(model, plan),
        saturation,
        (*_notes(found, scales), *notes),
        ranges if missing else "imported",
        kept=found,
        own=own,
    )


def _refused(
    model: ir.Model, plan: QuantPlan, scales: ModelScales, target: Target
) -> Mapping[str, str]:
    trial = replace(plan, values=dict(plan.values))
    return import_encodings(scales.given, model.graph, trial, target).refused


def dropped(scales: ModelScales, scheme: Scheme) -> list[Note]:
    """That none of a model's scales are kept, under a scheme that has none to give activations."""
    if scheme.needs_data:
        return []
    text = (
        f"{scales.given.path.name} is quantized already, and {scheme.scheme} keeps none of its "
        "scales: built from the float numbers that they stand for; without --scheme they stay"
    )
    return [Note("warning", text)]


def check_options(options: BuildOptions) -> None:
    """Refuse what needs plans of our own.

    Raises:
        QCompileError: BAD_OPTION.
    """
    asked = {
        "--max-drop, --max-latency and --max-size": options.has_budgets,
        "--sensitivity": options.sensitivity,
        "--never-slower": options.never_slower,
        "--encodings": options.scheme.encodings is not None,
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise QCompileError(
                Code.BAD_OPTION,
                f"{name}: the model is quantized already, and its scales are kept as they are",
                hint="--requantize drops them, and builds from the float numbers they stand for",
            )


def _no_ranges(missing: Sequence[str], scales: ModelScales) -> QCompileError:
    return QCompileError(
        Code.NO_DATA,
        f"{scales.given.path.name} is quantized already, but says no scale for {listed(missing)}, "
        "and there are no samples to find them",
        hint="give calibration data with -d",
    )


def _notes(found: Kept, scales: ModelScales) -> list[Note]:
    """What there is to say: what was kept, what was added, and what could not be kept."""
    parts = [
        count(found.activations, "activation scale"),
        count(found.weights, "weight"),
        count(found.biases, "bias", "biases"),
    ]
    notes = [Note("info", f"kept as {scales.given.path.name} has them: {', '.join(parts)}")]
    if found.added:
        names = listed(list(found.added))
        notes.append(Note("info", f"scales added where the model has none: {names}"))
    if found.idle:
        text = f"scales of the model that nothing needs here: {listed(found.idle)}"
        notes.append(Note("info", text))
    if found.changed:
        why = next(iter(found.changed.values()))
        text = f"scales of the model that could not be kept: {listed(list(found.changed))}"
        notes.append(Note("warning", f"{text} ({why})"))
    if scales.kept:
        text = f"quantizers that stay as they are, in floats: {listed(scales.kept)}"
        notes.append(Note("warning", text))
    return notes
