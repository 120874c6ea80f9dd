"""``export``: the scales of a build in a form that another tool reads."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from qcompile.compiler import measure
from qcompile.compiler.encodings.exporting import Exported, encodings_of
from qcompile.compiler.encodings.formats import FORMATS
from qcompile.compiler.encodings.record import as_text
from qcompile.compiler.encodings.source import SourceModel, source_of
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.importers.source import Source, load_source, open_source
from qcompile.compiler.options import Scheme, check_choice
from qcompile.compiler.output import PLAN, OutputSet
from qcompile.compiler.pipeline import is_quantized, prepare_with_scales
from qcompile.compiler.report.page import Page, Remark, count
from qcompile.compiler.runner import run_passes
from qcompile.compiler.saved_plan import read_plan
from qcompile.core import graph as g
from qcompile.core.errors import Code, QCompileError
from qcompile.core.plan import QuantPlan
from qcompile.passes.plan.pixel_values import RULE as RAW
from qcompile.passes.prepare.pixel_input import PixelInput
from qcompile.passes.transform.table import transformed
from qcompile.targets.backends import backend_for_file
from qcompile.targets.onnxruntime.executor import ONE_FILE, take_in, weight_bytes

PREPARED = ".onnx"
"""Suffix of the prepared float model beside the encodings."""


@dataclass(frozen=True, eq=False)
class ExportResult:
    """What was written."""

    path: Path
    format: str
    exported: Exported
    prepared: Path | None = None
    """The float model that the encodings are for, where it is not the user's."""

    def page(self) -> Page:
        """The result in words."""
        encodings = self.exported.encodings
        weights = sum(e.is_parameter for e in encodings)
        facts = [
            ("format", self.format),
            ("activations", str(len(encodings) - weights)),
            ("constants", str(weights)),
        ]
        facts += [("prepared model", self.prepared.name)] if self.prepared is not None else []
        reasons = Counter(self.exported.left_out.values())
        remarks = [
            Remark("warning", f"{count(n, 'value')} left out: {why}") for why, n in reasons.items()
        ]
        if remarks and self.prepared is None:
            text = "with --prepared the float model that all scales belong to is written beside"
            remarks.append(Remark("info", text))
        return Page(self.path.name, tuple(facts), (), tuple(remarks))


def export_build(
    build: Path,
    reference: str | Path,
    out: Path,
    form: str,
    importing: ImportOptions,
    *,
    prepared: bool,
) -> ExportResult:
    """Write the scales of a build.

    Args:
        build: the artefact, beside which its plan lies, or the plan itself.
        reference: the float model it was made from.
        out: the file to write.
        form: a key of ``FORMATS``.
        importing: how the reference is read; the shapes are those that the build was given.
        prepared: write also the prepared float model, OUT.onnx, and encodings for that one: it has
            all values of the plan, with batch normalization folded and the like.

    Raises:
        QCompileError: BAD_PLAN, PLAN_MISMATCH; what reading the model and writing raise.
    """
    check_choice("--format", form, tuple(FORMATS))
    plan_path = plan_of(build)
    outputs = OutputSet(
        out,
        suffixes=(PREPARED,) if prepared else (),
        inputs=[build, plan_path, plan_path.with_suffix(".npz"), *_file(reference)],
    )
    with open_source(reference, importing) as source:
        return _export(source, plan_path, outputs, form, importing, prepared=prepared)


def _file(reference: str | Path) -> list[Path]:
    return [Path(reference)] if Path(reference).exists() else []


def _export(
    reference: Source,
    plan_path: Path,
    outputs: OutputSet,
    form: str,
    importing: ImportOptions,
    *,
    prepared: bool,
) -> ExportResult:
    write = FORMATS[form]
    plan = read_plan(plan_path).plan
    steps = _pixel_steps(plan_path, plan)
    for one in _ways(reference, plan, importing, steps):
        outputs.protect(one.files)
        model = transformed(one.model, plan.transforms)
        if plan.fingerprint in {g.fingerprint(one.model), g.fingerprint(model)}:
            break
    else:
        raise QCompileError(
            Code.PLAN_MISMATCH,
            f"{plan_path} was made for another model: its graph differs from that of "
            f"{reference.name}",
            hint="give --shape as the build had it" if not importing.shapes else None,
        )
    exported = encodings_of(plan, model.graph, None if prepared else one.source)
    with outputs:
        outputs.write("", as_text(write(exported.encodings)))
        if prepared:
            outputs.write(PREPARED, float_file(model))
        outputs.commit()
    return ExportResult(
        outputs.path(), form, exported, outputs.path(PREPARED) if prepared else None
    )


@dataclass(frozen=True)
class _Way:
    """The reference as a build may have prepared it."""

    model: ir.Model
    source: SourceModel
    files: tuple[Path, ...]


def _ways(
    reference: Source, plan: QuantPlan, importing: ImportOptions, steps: list[PixelInput]
) -> Iterator[_Way]:
    """The reference as a build prepared it; of one that is quantized also without its scales.

    Which of the two it was (``--requantize``) the fingerprint of the plan says.
    """
    target = measure.known_target(plan.target)
    static = target is not None and target.static_shapes  # then an open batch was fixed to 1
    unroll = 0 if target is None else target.unroll
    for requantize in (False, True):
        imported = load_source(reference, importing.shapes, static=static)
        if requantize and not is_quantized(imported.model):
            return
        source = source_of(imported.model)
        model, _ = prepare_with_scales(imported, Scheme(), unroll=unroll, requantize=requantize)
        run_passes(model, steps)
        yield _Way(model, source, imported.files)


def _pixel_steps(plan_path: Path, plan: QuantPlan) -> list[PixelInput]:
    """What a build for raw bytes did to its inputs, as the artefact beside the plan notes it."""
    artefact = plan_path.with_name(plan_path.name.removesuffix(PLAN))
    if not any(entry.rule == RAW for entry in plan.values.values()) or not artefact.is_file():
        return []
    ends = backend_for_file(artefact).facts(artefact).ends
    made = ((name, end.pixels) for name, end in ends.items())
    return [PixelInput(name, p.mean, p.std, p.axis) for name, p in made if p is not None]


def plan_of(build: Path) -> Path:
    """The plan of a build: the file itself, or what lies beside the artefact.

    Raises:
        QCompileError: BAD_PLAN when there is none.
    """
    if build.name.endswith(".json"):
        return build
    plan = build.with_name(build.name + PLAN)
    if not plan.is_file():
        raise QCompileError(
            Code.BAD_PLAN,
            f"there is no {plan.name} beside {build}",
            hint="name the artefact of a build, or its .plan.json",
        )
    return plan


def float_file(model: ir.Model) -> bytes:
    """A model as one file, its weights in it.

    Raises:
        QCompileError: BAD_OPTION for more weights than a file can hold.
    """
    clone = model.clone()
    take_in(clone)
    if weight_bytes(clone) > ONE_FILE:
        raise QCompileError(Code.BAD_OPTION, "the model holds more weights than a file can")
    return bytes(ir.to_proto(clone).SerializeToString(deterministic=True))
