"""``diff``: two files held against each other, from what they say to what they compute."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

import qcompile
from qcompile.compiler.config import Config
from qcompile.compiler.data.dataset import Dataset
from qcompile.compiler.data.options import DataSpec
from qcompile.compiler.diff import compare, parting
from qcompile.compiler.diff.aligning import align, align_clamps, have_equal_ends
from qcompile.compiler.diff.reading import read_side
from qcompile.compiler.diff.scaling import with_scalings
from qcompile.compiler.diff.side import Side
from qcompile.compiler.diff.trace import compare_values, is_at_home, open_side
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.progress import Progress, Timed
from qcompile.compiler.report.accuracy import Accuracy
from qcompile.compiler.report.diff_model import DiffReport, SideInfo
from qcompile.compiler.samples import FeedsOf, open_samples
from qcompile.compiler.verify.accuracy import evaluate
from qcompile.core.backend import Facts
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Session
from qcompile.core.notes import Note
from qcompile.core.signature import Signature, TensorSpec

TRACED_SAMPLES = 16
"""Samples on which values inside the models are compared, at most."""
LARGEST_FALL = 10.0
"""dB that SQNR may fall from one value to the next before the two are said to part."""


@dataclass
class Diff:
    """One comparison; ``run`` is the order of its steps."""

    first: str
    """Path of it, or what else an importer takes."""
    second: str
    reference: str | None
    config: Config
    data: DataSpec | None
    importing: ImportOptions
    """How a model that is no file of ONNX, TFLite or ours is read; and the shapes."""
    threads: int
    largest_fall: float
    progress: Progress

    def run(self) -> DiffReport:
        """Read both, say what differs, run both where there are samples."""
        with ExitStack() as opened:
            return self._run(opened)

    def _run(self, opened: ExitStack) -> DiffReport:
        timed = Timed(self.progress)
        with timed.stage("read"):
            first, notes = read_side(self.first, self.importing, opened)
            second, more = read_side(self.second, self.importing, opened)
            reference = None
            if self.reference is not None:
                reference, _ = read_side(self.reference, self.importing, opened)
        notes += more
        first, second, reference = self._aligned(first, second, reference)
        report = _said(first, second, reference)
        if self.data is not None:
            report = self._ran(report, first, second, reference, timed)
        notes += _remarks(first, second, report)
        return replace(report, notes=(*report.notes, *notes))

    def _aligned(
        self, first: Side, second: Side, reference: Side | None
    ) -> tuple[Side, Side, Side | None]:
        """All sides by the names of one; as they are when they cannot be and need not be run."""
        sides = [side for side in (first, second, reference) if side is not None]
        plan = next((side for side in sides if not side.runs), None)
        if plan is not None and self.data is not None:
            raise QCompileError(
                Code.BAD_OPTION,
                f"{plan.path.name} is a plan, which cannot be run on data",
                hint="name the artefacts, or leave out -d",
            )
        if self.data is None and not have_equal_ends(sides):
            return first, second, reference
        signature = _signature(sides)
        sides = [align(side, signature) for side in sides]
        graph = next((side for side in sides if side.format == "onnx"), sides[0])
        sides = [align_clamps(side, graph) for side in sides]
        return sides[0], sides[1], sides[2] if reference is not None else None

    def _ran(
        self, report: DiffReport, first: Side, second: Side, reference: Side | None, timed: Timed
    ) -> DiffReport:
        sides = [side for side in (first, second, reference) if side is not None]
        floats = reference if reference is not None else first
        data = self._open(_signature(sides), lambda: open_side(floats))
        with timed.stage("judge", len(data)):
            opened = [open_side(side) for side in sides]
            described = f"{len(data)} samples of {data.name}"
            arithmetic = _arithmetic(sides)

            def judge(one: int, other: int) -> Accuracy:
                return evaluate(
                    opened[one],
                    opened[other],
                    data,
                    data=described,
                    threads=self.threads,
                    arithmetic=arithmetic,
                )

            report = replace(report, accuracy=judge(0, 1))
            if reference is not None:
                report = replace(report, first_accuracy=judge(2, 0), second_accuracy=judge(2, 1))
        scaled, unknown = with_scalings(sides, self.importing.shapes)
        if unknown:
            return replace(report, notes=tuple(_scaled_otherwise(side) for side in unknown))
        with timed.stage("trace"):
            feeds = FeedsOf(data)[:TRACED_SAMPLES]
            compared = compare_values(scaled, feeds, threads=self.threads)
        return replace(
            report,
            layers=parting.layers(compared, first, second, self.largest_fall),
            traced=len(feeds),
            largest_fall_db=self.largest_fall,
        )

    def _open(self, signature: Signature, open_float: Callable[[], Session]) -> Dataset:
        source = self.config.data_source("eval", self.data)
        assert source is not None
        return open_samples(source, signature, self.config, open_float)


def _said(first: Side, second: Side, reference: Side | None) -> DiffReport:
    """What the files say by themselves."""
    nodes, same_nodes = compare.node_differences(first, second)
    grids, same_grids, retyped = compare.grid_differences(first, second)
    corrections: tuple[str, ...] = ()
    rounded: tuple[str, ...] = ()
    if first.plan is not None and second.plan is not None:
        corrections = compare.changed_arrays(first.plan.corrections, second.plan.corrections)
        rounded = compare.changed_arrays(first.plan.rounded, second.plan.rounded)
    return DiffReport(
        qcompile_version=qcompile.__version__,
        first=_side_info(first),
        second=_side_info(second),
        reference=reference.info if reference is not None else None,
        operators=compare.operator_differences(first, second),
        weight_bytes=compare.count_differences(first.weight_bytes, second.weight_bytes)
        if first.runs and second.runs
        else (),
        nodes=nodes,
        same_nodes=same_nodes,
        grids=grids,
        same_grids=same_grids,
        retyped=retyped,
        constants=compare.changed_constants(first, second),
        corrections=corrections,
        rounded=rounded,
    )


def _side_info(side: Side) -> SideInfo:
    return SideInfo(
        model=side.info,
        format=side.format,
        target=side.target,
        scheme=side.plan.scheme if side.plan is not None else "",
        has_plan=side.plan is not None,
        is_float=not side.grids,
    )


def _remarks(first: Side, second: Side, report: DiffReport) -> list[Note]:
    """What makes two sides hard to compare."""
    notes = []
    plans = [side.plan for side in (first, second) if side.plan is not None]
    if len(plans) > 1 and not set(plans[0].nodes) & set(plans[1].nodes):
        notes.append(Note("warning", "the two have no node in common: are they of one model?"))
    quantized = bool(first.grids) and bool(second.grids)
    if quantized and not set(first.grids) & set(second.grids):
        notes.append(Note("warning", "no quantized value has the same name in both"))
    if report.traced and report.accuracy and len(report.layers) <= len(report.accuracy.outputs):
        text = "hardly a value inside the two has the same name; layers cannot be compared"
        notes.append(Note("warning", text))
    if report.layers and "tflite" in {first.format, second.format}:
        text = (
            "layers of TFLite are those of LiteRT's built-in kernels; XNNPACK, which ran for the "
            "outputs, keeps none, and may differ from them by 1 LSB an operator"
        )
        notes.append(Note("info", text))
    return notes


def _scaled_otherwise(side: Side) -> Note:
    text = (
        f"layers are not compared: transforms scaled the values inside {side.path.name}, by how "
        "much only the float model can tell; give it as the other side or with --reference"
    )
    return Note("warning", text)


def _arithmetic(sides: Sequence[Side]) -> str:
    if any(side.format == "onnx" and not is_at_home(side) for side in sides):
        return "exact integer sums; this machine is not the target"
    return ""


def _signature(sides: Sequence[Side]) -> Signature:
    """What the samples are for: the float ends of the reference, else of the plainest side."""
    facts = [side.facts for side in sides if side.facts is not None]
    ordered = [facts[-1], *facts] if len(sides) > 2 else facts
    plain = next((f for f in ordered if not f.ends), ordered[0])
    return Signature(
        tuple(_float_end(spec, plain) for spec in plain.inputs),
        tuple(_float_end(spec, plain) for spec in plain.outputs),
    )


def _float_end(spec: TensorSpec, facts: Facts) -> TensorSpec:
    """An end as the float model has it: real, its axes in ONNX's order."""
    end = facts.ends.get(spec.name)
    if end is None:
        return spec
    shape = spec.shape
    if end.perm is not None and shape is not None:
        shape = tuple(shape[axis] for axis in np.argsort(end.perm))
    return TensorSpec(spec.name, spec.dtype if end.scale is None else "float32", shape)
