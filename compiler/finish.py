"""The last part of a build, once a target: lower the plan, prove the artefact, judge it."""

import platform
import resource
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

import qcompile
from qcompile.compiler import measure
from qcompile.compiler.data.dataset import Dataset
from qcompile.compiler.devices import open_devices
from qcompile.compiler.encodings.quantized import Kept
from qcompile.compiler.importers.onnx import Imported
from qcompile.compiler.on_devices import OnDevices, Tried
from qcompile.compiler.options import BuildOptions
from qcompile.compiler.output import PORTABLE
from qcompile.compiler.pipeline import Compiled
from qcompile.compiler.pixels import byte_info
from qcompile.compiler.progress import Timed
from qcompile.compiler.quantizing import quantize
from qcompile.compiler.report.model import (
    BuildReport,
    LayerQuality,
    Measured,
    OwnScales,
    PassTime,
    Saturation,
    Step,
)
from qcompile.compiler.report.never_slower import region_costs
from qcompile.compiler.report.tried import TriedStep
from qcompile.compiler.runner import PassRecord
from qcompile.compiler.samples import FeedsOf, Samples
from qcompile.compiler.search.recipe import Trial
from qcompile.compiler.verify.coverage import coverage, planned_nodes
from qcompile.compiler.verify.layers import layer_quality, worst
from qcompile.compiler.verify.offload import accelerate, explain, judge_offload
from qcompile.compiler.verify.stored import stored_report
from qcompile.compiler.weight_options import SYMMETRIES
from qcompile.core.accelerator_tool import Accelerated
from qcompile.core.app_info import APP_KEY, AppInfo
from qcompile.core.backend import IO_LAYOUT_KEY, SIMULATED_KEY, Backend
from qcompile.core.executor import Executor
from qcompile.core.memory import give_back
from qcompile.core.notes import Note
from qcompile.core.plan import QuantPlan
from qcompile.core.schemes import FLOAT_SCHEMES
from qcompile.core.target import Target
from qcompile.passes.plan.caches import without_caches
from qcompile.passes.plan.retype import retyped
from qcompile.passes.plan.safe_weights import SaturationCount
from qcompile.targets.backends import backend_of

_NOISE = "it is built on noise, not on data"
LAYER_SAMPLES = 8
"""Samples on which the layers' SQNR is measured."""


@dataclass(frozen=True)
class BuildResult:
    """A finished build for one target."""

    artefact: bytes
    """The compiled model, a complete file."""
    report: BuildReport
    plan: QuantPlan
    qdq: ir.Model
    """The QDQ graph that the artefact was lowered from."""
    portable: bytes | None = None
    """The model before the target's tool compiled it for an accelerator: what can be run here."""

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


@dataclass
class Shared:
    """What the builds for several targets have in common."""

    source: Path
    options: BuildOptions
    imported: Imported
    samples: Samples
    compiled: Compiled
    executor: Executor
    timed: Timed
    passes: list[PassRecord]
    notes: list[Note]
    app: AppInfo | None = None
    """What an app must know of the model; goes into every artefact."""


class Finish:
    """The artefact for one target, and its report.

    Args:
        shared: the compiled model and how it came to be.
        target: what the artefact is for.
        ends: type of its ends.
        name: of the file it will be, for the report.
    """

    def __init__(self, shared: Shared, target: Target, ends: str, name: str) -> None:
        self.shared = shared
        self.options = shared.options
        self.timed = shared.timed
        self.target = target
        self.ends = ends
        self.name = name
        self.backend: Backend = backend_of(target.runtime)
        self.notes = list(shared.notes)
        if target.cost and self.options.scheme.weights == "int":
            self.notes.append(Note("warning", target.cost))
        self.compiled = _for_target(shared.compiled, target, ends)

    def run(self) -> BuildResult:
        """Lower, prove, judge."""
        give_back()
        with self.timed.stage("lower"):
            lowered = self.backend.lower(self._asked(self.compiled.qdq), self.target)
            give_back()
        self.notes += lowered.notes
        with self.timed.stage("look off target"):
            made = accelerate(lowered.data, self.target, self.backend)
            give_back()
        self.notes += made.notes
        accelerator = self.target.accelerator
        if accelerator is not None and accelerator.replaces and self.name:
            kept = f"{self.name}{PORTABLE}{self.backend.suffix}"
            self.notes.append(Note("info", f"{kept} is the model before that, which runs here"))
        report = self._report(
            self.shared.imported, self.compiled, lowered.data, made, self.shared.samples
        )
        portable = lowered.data if made.data != lowered.data else None
        return BuildResult(made.data, report, self.compiled.plan, self.compiled.qdq, portable)

    def _report(
        self,
        imported: Imported,
        compiled: Compiled,
        artefact: bytes,
        made: Accelerated,
        samples: Samples,
    ) -> BuildReport:
        """``artefact``: the file that the runtime runs; ``made``: what became of it."""
        target, scheme = self.target, self.options.scheme
        with self.timed.stage("prove"):
            planned = planned_nodes(compiled.model, compiled.plan, compiled.qdq)
            proof = self.backend.prove(artefact, planned, target)
            facts = self.backend.facts(artefact)
            covered = coverage(compiled.model, compiled.plan, proof)
            offload = explain(
                made.offload, compiled.model, compiled.plan, compiled.qdq, covered, target
            )
        give_back()
        pair = measure.Pair(
            measure.Reference(
                self.shared.source, self.options.shapes, imported.ends, imported.signature
            ),
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
                accuracy = measure.accuracy(
                    pair, judged, described, scheme.threads, counter, self.options.metric
                )
        if samples.calibration is not None:
            self.notes += measure.data_notes(
                samples.calibration, compiled.model, is_random=samples.is_random
            )
        with self.timed.stage("layers"):
            layers = self._layers(samples)
        tried = self._on_devices(pair, samples)
        times = self._times(pair, samples, tried)
        share = None
        if (
            times.latency is not None
            and not tried
            and (data := _samples_to_run(samples)) is not None
        ):
            share = measure.off_share(pair, offload, data[0].feeds)
        meant = scheme.scheme not in FLOAT_SCHEMES and not target.simulated
        meant = meant and scheme.weights == "int"
        if meant and not any(row.integer for row in covered.ops):
            self.notes.append(Note("warning", "nothing in this model became integer"))
        self.notes += (note for one in tried for note in one.notes)
        return BuildReport(
            qcompile_version=qcompile.__version__,
            target=target.name,
            target_title=target.title,
            scheme=scheme.name,
            effort=self.options.effort,
            ranges=compiled.ranges,
            calibration="a saved plan" if self.options.plan else samples.described,
            model=measure.file_info(self.shared.source, imported),
            artefact=measure.artefact_info(made.data, facts, self.name),
            coverage=covered,
            accuracy=accuracy,
            no_accuracy="" if accuracy is not None else samples.judged_described,
            saturation=_saturation(compiled),
            tried=tuple(map(_tried, compiled.tried)),
            worst_layers=worst(layers),
            notes=tuple(self.notes),
            unfit=self._unfit(compiled.plan),
            simulated=scheme.name if target.simulated else "",
            options=self._shaping_options(),
            own_scales=_own_scales(compiled.kept),
            stored=stored_report(compiled.model, compiled.plan),
            mixed=compiled.mixed,
            devices=tuple(one.found for one in tried),
            regions=region_costs(compiled.plan),
            offload=offload,
            cache=measure.cache_bytes(pair),
            gates=judge_offload(self.options.off_limits, offload),
            measured=Measured(
                latency=times.latency,
                no_latency=times.why,
                decoding=times.decoding,
                instructions=tried[0].times.instructions if tried else None,
                devices=tuple(one.times for one in tried),
                off_share=share,
                steps=tuple(self.timed.steps),
                tried=tuple(Step(name=t.step, seconds=t.seconds) for t in compiled.tried),
                passes=self._pass_times(),
                peak_memory_mb=peak_memory_mb(),
                mixed=compiled.mixed_times,
            ),
        )

    def _asked(self, model: ir.Model) -> ir.Model:
        """The graph with what is wished of it written into it: back ends read nothing else."""
        if self.target.simulated:
            model.metadata_props[SIMULATED_KEY] = self.options.scheme.name
        if self.options.io_layout is not None:
            model.metadata_props[IO_LAYOUT_KEY] = self.options.io_layout
        app = byte_info(self.shared.app, self.compiled.model, self.ends)
        if app is not None:
            model.metadata_props[APP_KEY] = app.to_json()
        return model

    def _unfit(self, plan: QuantPlan) -> tuple[str, ...]:
        """Why the artefact must not be shipped."""
        scheme = self.options.scheme.name
        kernels = f"{scheme} is simulated in floats: {self.target.name} has no kernels for it"
        reasons = {kernels: self.target.simulated, _NOISE: plan.from_noise}
        return tuple(reason for reason, holds in reasons.items() if holds)

    def _baseline(self, compiled: Compiled) -> bytes | None:
        """The float model in the artefact's format, where its runtime needs one to be timed."""
        if self.backend.runs_float_file or not self.options.latency:
            return None
        return self.backend.lower(self._asked(compiled.model), self.target).data

    def _layers(self, samples: Samples) -> list[LayerQuality]:
        """Measured on the plan as it was made: in its types the runtime here runs the graph."""
        compiled = self.shared.compiled
        data = _samples_to_run(samples)
        if data is None or self.options.scheme.scheme in FLOAT_SCHEMES:
            return []
        qdq = compiled.qdq
        floats = without_caches(replace(compiled.plan, ends="float"))
        if compiled.plan.ends != "float" or len(floats.values) != len(compiled.plan.values):
            qdq = quantize(compiled.model, floats)
        feeds = FeedsOf(data)[:LAYER_SAMPLES]
        threads = self.options.scheme.threads
        return layer_quality(
            self.shared.executor,
            compiled.model,
            compiled.plan,
            qdq,
            feeds,
            threads=threads,
            own=compiled.own,
        )

    def _times(self, pair: measure.Pair, samples: Samples, tried: list[Tried]) -> measure.Times:
        """In this process, or as it was on the first device that was named."""
        if tried:
            return measure.Times(tried[0].times.latency, tried[0].times.no_latency)
        data = _samples_to_run(samples)
        if not self.options.latency:
            return measure.Times(why="not asked for")
        if self.target.simulated:
            return measure.Times(why="the time of a simulation says nothing")
        if data is None:
            return measure.Times(why="there are no samples to run on")
        with self.timed.stage("time"):
            return measure.times(pair, data[0].feeds)

    def _on_devices(self, pair: measure.Pair, samples: Samples) -> list[Tried]:
        """The artefact on the devices that were named, to be verified where it will run."""
        options = self.options
        data = _samples_to_run(samples)
        if not options.devices.specs:
            return []
        trial = OnDevices(
            pair,
            options.devices,
            samples.judged,
            None if data is None else data[0].feeds,
            described=samples.judged_described,
            no_data=samples.judged_described,
            latency=options.latency,
            threads=options.scheme.threads,
            metric=options.metric,
        )
        with open_devices(options.devices) as devices:
            return trial.run(devices, self.timed)

    def _shaping_options(self) -> tuple[tuple[str, str], ...]:
        scheme = self.options.scheme
        chosen = {"granularity": scheme.granularity or "", "io": scheme.ends}
        if scheme.symmetric is not None:
            chosen["symmetry"] = SYMMETRIES[0 if scheme.symmetric else 1]
        chosen["io-layout"] = self.options.io_layout or ""
        chosen |= {f"shape {n}": "x".join(map(str, s)) for n, s in self.options.shapes.items()}
        return tuple((name, text) for name, text in chosen.items() if text not in {"", "float"})

    def _pass_times(self) -> tuple[PassTime, ...]:
        if not self.options.time_passes:
            return ()
        return tuple(
            PassTime(name=r.name, seconds=r.seconds, changed=r.changed, nodes=r.nodes)
            for r in self.shared.passes
        )


def _samples_to_run(samples: Samples) -> Dataset | None:
    """Those that accuracy is judged on, else those that gave the ranges."""
    return samples.judged if samples.judged is not None else samples.calibration


def _for_target(compiled: Compiled, target: Target, ends: str) -> Compiled:
    """The compiled model in the target's own types; as it is when it was made for it alone."""
    own = target.activations.dtype
    activations = (v for v in compiled.plan.values.values() if v.role == "activation")
    if compiled.plan.target == target.name and all(v.dtype == own for v in activations):
        return compiled
    plan = retyped(compiled.plan, target, ends)
    return replace(compiled, plan=plan, qdq=quantize(compiled.model, plan))


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in MB."""
    peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak / (1e6 if platform.system() == "Darwin" else 1e3)


def _tried(trial: Trial) -> TriedStep:
    return TriedStep(
        step=trial.step,
        db_before=trial.before,
        db_after=trial.after,
        kept=trial.kept,
        agreement_before=trial.agreement_before,
        agreement_after=trial.agreement_after,
    )


def _own_scales(kept: Kept | None) -> OwnScales | None:
    if kept is None:
        return None
    return OwnScales(
        activations=kept.activations,
        weights=kept.weights,
        biases=kept.biases,
        added=tuple(kept.added.items()),
        changed=tuple(kept.changed.items()),
        idle=tuple(kept.idle),
    )


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
