"""``build``: a float model in, a proven and measured integer model out."""

import platform
import resource
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

import qcompile
from qcompile.compiler import measure
from qcompile.compiler.config import Config
from qcompile.compiler.data.options import DataSpec
from qcompile.compiler.importers.onnx import Imported, load_onnx
from qcompile.compiler.options import BuildOptions
from qcompile.compiler.output import PLAN, PLAN_ARRAYS, REPORT, OutputSet
from qcompile.compiler.pipeline import Compiled, compile_graph, prepare, quantize, replay
from qcompile.compiler.progress import Progress, Timed
from qcompile.compiler.report.json_view import report_json
from qcompile.compiler.report.model import (
    BuildReport,
    Latency,
    LayerQuality,
    Measured,
    PassTime,
    Saturation,
)
from qcompile.compiler.runner import PassRecord, dump
from qcompile.compiler.samples import FeedsOf, Samples, choose_samples
from qcompile.compiler.verify.coverage import coverage, planned_nodes
from qcompile.compiler.verify.layers import layer_quality, worst
from qcompile.core.notes import Note
from qcompile.core.plan import QuantPlan
from qcompile.core.plan_file import to_arrays, to_json
from qcompile.passes.plan.safe_weights import SaturationCount
from qcompile.targets.backends import backend_of
from qcompile.targets.onnxruntime.executor import OrtExecutor

_NOISE = "its ranges come from noise, not from data"
LAYER_SAMPLES = 8
"""Samples on which the layers' SQNR is measured."""


@dataclass(frozen=True)
class BuildResult:
    """A finished build."""

    artefact: bytes
    """The compiled model, a complete .onnx file."""
    report: BuildReport
    plan: QuantPlan
    qdq: ir.Model
    """The QDQ graph that the artefact was lowered from."""

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


@dataclass
class Build:
    """One build; ``run`` is the order of its steps."""

    source: Path
    options: BuildOptions
    config: Config
    data: DataSpec | None
    eval_data: DataSpec | None
    out: OutputSet | None
    progress: Progress

    def run(self) -> BuildResult:
        """Do everything; files appear together at the end, or not at all."""
        self.timed = Timed(self.progress)
        self.executor = OrtExecutor()
        self.backend = backend_of(self.options.target.runtime)
        self.passes: list[PassRecord] = []
        self.notes: list[Note] = []
        imported = self._import()
        samples = self._samples(imported)
        compiled = self._compile(imported, samples)
        with self.timed.stage("lower"):
            lowered = self.backend.lower(compiled.qdq, self.options.target)
        self.notes += lowered.notes
        artefact = lowered.data
        report = self._report(imported, compiled, artefact, samples)
        result = BuildResult(artefact, report, compiled.plan, compiled.qdq)
        if self.out is not None:
            self._write(self.out, result)
        return result

    # --- the way of the model ------------------------------------------------------------------

    def _import(self) -> Imported:
        with self.timed.stage("import"):
            static = self.options.target.static_shapes
            imported = load_onnx(self.source, self.options.shapes, static=static)
            if self.out is not None:
                self.out.protect(imported.files)
        self.notes += imported.notes
        return imported

    def _samples(self, imported: Imported) -> Samples:
        return choose_samples(
            imported.signature,
            self.config,
            self.data,
            self.eval_data,
            needed=self.options.scheme.needs_data and self.options.plan is None,
            random=self.options.random_data,
            seed=self.options.seed,
        )

    def _compile(self, imported: Imported, samples: Samples) -> Compiled:
        scheme, target = self.options.scheme, self.options.target
        with self.timed.stage("prepare"):
            model = prepare(imported, scheme, lambda record, _: self.passes.append(record))
        saved = self.options.plan
        if saved is not None:
            self.notes += saved.notes
            with self.timed.stage("replay the plan"):
                compiled = replay(model, saved.plan, target, scheme, imported.float_nodes)
        else:
            feeds = FeedsOf(samples.calibration) if samples.calibration is not None else ()
            compiled = compile_graph(
                model, target, scheme, self.executor, feeds, self.timed, imported.float_nodes
            )
            compiled.plan.from_noise = samples.is_random and scheme.needs_data
        self.notes += compiled.notes
        if scheme.dump_dir is not None and compiled.plan.nodes:
            dump(compiled.qdq, scheme.dump_dir / f"{len(self.passes):02d}_InsertQDQ")
        return compiled

    # --- what is said of it --------------------------------------------------------------------

    def _report(
        self, imported: Imported, compiled: Compiled, artefact: bytes, samples: Samples
    ) -> BuildReport:
        target, scheme = self.options.target, self.options.scheme
        with self.timed.stage("prove"):
            planned = planned_nodes(compiled.model, compiled.plan, compiled.qdq)
            proof = self.backend.prove(artefact, planned, target)
            facts = self.backend.facts(artefact)
            covered = coverage(compiled.model, compiled.plan, proof)
        pair = measure.Pair(
            measure.Reference(self.source, self.options.shapes),
            artefact,
            self.backend,
            facts,
            target,
            self._baseline(compiled),
        )
        judged = samples.judged
        accuracy = None
        if judged is not None:
            with self.timed.stage("judge", len(judged)) as counter:
                described = samples.judged_described
                accuracy = measure.accuracy(pair, judged, described, scheme.threads, counter)
        if samples.calibration is not None:
            with self.timed.stage("lint"):
                self.notes += measure.data_notes(
                    samples.calibration, compiled.model, self.executor, is_random=samples.is_random
                )
        with self.timed.stage("layers"):
            layers = self._layers(compiled, samples)
        latency, why = self._latency(pair, samples)
        if not any(row.integer for row in covered.ops) and scheme.scheme != "float":
            self.notes.append(Note("warning", "nothing in this model became integer"))
        return BuildReport(
            qcompile_version=qcompile.__version__,
            target=target.name,
            target_title=target.title,
            scheme=scheme.scheme,
            effort=self.options.effort,
            ranges=scheme.ranges if scheme.needs_data else "",
            calibration="a saved plan" if self.options.plan else samples.described,
            model=measure.file_info(self.source, imported),
            artefact=measure.artefact_info(
                artefact, facts, self.out.path().name if self.out else ""
            ),
            coverage=covered,
            accuracy=accuracy,
            no_accuracy="" if accuracy is not None else samples.judged_described,
            saturation=_saturation(compiled),
            worst_layers=worst(layers),
            notes=tuple(self.notes),
            unfit=(_NOISE,) if compiled.plan.from_noise else (),
            options=self._shaping_options(),
            measured=Measured(
                latency=latency,
                no_latency=why,
                steps=tuple(self.timed.steps),
                passes=self._pass_times(),
                peak_memory_mb=peak_memory_mb(),
            ),
        )

    def _baseline(self, compiled: Compiled) -> bytes | None:
        """The float model in the artefact's format, where its runtime needs one to be timed."""
        if self.backend.runs_float_file or not self.options.latency:
            return None
        return self.backend.lower(compiled.model, self.options.target).data

    def _layers(self, compiled: Compiled, samples: Samples) -> list[LayerQuality]:
        data = samples.judged if samples.judged is not None else samples.calibration
        if data is None or self.options.scheme.scheme == "float":
            return []
        qdq = compiled.qdq
        if compiled.plan.ends != "float":
            qdq = quantize(compiled.model, replace(compiled.plan, ends="float"))
        feeds = FeedsOf(data)[:LAYER_SAMPLES]
        threads = self.options.scheme.threads
        return layer_quality(
            self.executor, compiled.model, compiled.plan, qdq, feeds, threads=threads
        )

    def _latency(self, pair: measure.Pair, samples: Samples) -> tuple[Latency | None, str]:
        data = samples.judged if samples.judged is not None else samples.calibration
        if not self.options.latency:
            return None, "not asked for"
        if data is None:
            return None, "there are no samples to run on"
        with self.timed.stage("time"):
            return measure.latency(pair, data[0].feeds)

    def _shaping_options(self) -> tuple[tuple[str, str], ...]:
        scheme = self.options.scheme
        chosen = {"granularity": scheme.granularity or "", "io": scheme.ends}
        chosen |= {f"shape {n}": "x".join(map(str, s)) for n, s in self.options.shapes.items()}
        return tuple((name, text) for name, text in chosen.items() if text not in {"", "float"})

    def _pass_times(self) -> tuple[PassTime, ...]:
        if not self.options.time_passes:
            return ()
        return tuple(
            PassTime(name=r.name, seconds=r.seconds, changed=r.changed, nodes=r.nodes)
            for r in self.passes
        )

    def _write(self, out: OutputSet, result: BuildResult) -> None:
        with self.timed.stage("write"), out:
            out.write("", result.artefact)
            out.write(REPORT, report_json(result.report).encode())
            out.write(PLAN, to_json(result.plan))
            out.write(PLAN_ARRAYS, to_arrays(result.plan))
            out.commit()


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in MB."""
    peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak / (1e6 if platform.system() == "Darwin" else 1e3)


def _saturation(compiled: Compiled) -> Saturation | None:
    count = compiled.saturation
    if count == SaturationCount():
        return None
    return Saturation(
        layers_proven=count.layers_proven,
        channels_shrunk=count.channels_shrunk,
        layers_shrunk=count.layers_shrunk,
        layers_unsigned=count.layers_unsigned,
    )
