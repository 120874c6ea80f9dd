"""``check``: a finished artefact against its float model, and the gates it is held to."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import qcompile
from qcompile.compiler import measure
from qcompile.compiler.config import Config
from qcompile.compiler.data.dataset import Dataset, evenly
from qcompile.compiler.data.decoder import made_notes
from qcompile.compiler.data.open import WAYS
from qcompile.compiler.data.options import DataSpec
from qcompile.compiler.data.text import check_tokenizer
from qcompile.compiler.device_options import DeviceOptions
from qcompile.compiler.devices import as_given, open_devices
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.importers.reading import read_model_file
from qcompile.compiler.importers.source import Source, load_source, open_source
from qcompile.compiler.off_limits import OffLimits
from qcompile.compiler.on_devices import OnDevices, Tried, check_limits, judge_each
from qcompile.compiler.progress import Progress, Timed
from qcompile.compiler.report.devices import Across
from qcompile.compiler.report.mixed import Gate
from qcompile.compiler.report.model import CheckReport, Measured, ModelInfo
from qcompile.compiler.samples import open_samples
from qcompile.compiler.verify.across import compare_across
from qcompile.compiler.verify.gates import Limits, judge
from qcompile.compiler.verify.inside import look_inside
from qcompile.compiler.verify.offload import judge_offload, look
from qcompile.compiler.verify.user_metric import UserMetric
from qcompile.core.backend import Backend
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds
from qcompile.core.notes import Note
from qcompile.core.signature import Signature
from qcompile.targets.backends import backend_for_file
from qcompile.targets.catalog import load_target
from qcompile.targets.devices.device import Device
from qcompile.targets.host import host_target

ACROSS_SAMPLES = 8
"""Samples on which devices are compared value by value."""


@dataclass(frozen=True)
class Checked:
    """What a check found on devices."""

    tried: tuple[Tried, ...]
    gates: tuple[Gate, ...]
    across: Across | None = None

    def into(self, report: CheckReport) -> CheckReport:
        """A report with it; the first device's accuracy and times are the report's own."""
        first = self.tried[0]
        return replace(
            report,
            accuracy=first.found.accuracy,
            devices=tuple(one.found for one in self.tried),
            across=self.across,
            gates=self.gates,
            notes=tuple(note for one in self.tried for note in one.notes),
            measured=Measured(
                latency=first.times.latency,
                no_latency=first.times.no_latency,
                instructions=first.times.instructions,
                devices=tuple(one.times for one in self.tried),
            ),
        )


@dataclass
class Check:
    """One check; ``run`` is the order of its steps."""

    artefact: Path
    reference: Path
    config: Config
    data: DataSpec | None
    limits: Limits
    shapes: Mapping[str, Sequence[int]]
    threads: int
    latency: bool
    progress: Progress
    metric: UserMetric | None = None
    devices: DeviceOptions = field(default_factory=DeviceOptions)
    off_limits: OffLimits = field(default_factory=OffLimits)
    """Gates on what leaves the target, and on what its tool estimates."""
    bisect: bool = False
    """Whether to look for the first operator that parts by running ever shorter artefacts."""
    importing: ImportOptions = field(default_factory=ImportOptions)
    """How a reference that is no ONNX file is read."""

    def run(self) -> CheckReport:
        """Load both, run both, judge."""
        self._check_options()
        with open_source(self.reference, self.importing) as source:
            return self._run(source)

    def _run(self, source: Source) -> CheckReport:
        timed = Timed(self.progress)
        with timed.stage("import"):
            imported = load_source(source, self.shapes)
            backend = backend_for_file(self.artefact)
            described = self._describe(backend)
            facts = backend.facts(self.artefact)
        signature = imported.signature
        check_tokenizer(self.config.tokenizer, signature)
        reference = measure.Reference(source.path, self.shapes, imported.ends, signature)
        target = measure.known_target(facts.target)
        pair = measure.Pair(reference, self.artefact, backend, facts, target)
        data = self._open(imported.signature, reference, timed)
        found = self._on_devices(pair, data, timed) if self.devices.specs else None
        report = CheckReport(
            qcompile_version=qcompile.__version__,
            artefact=described,
            reference=measure.file_info(source.path, imported),
            cache=measure.cache_bytes(pair),
            simulated=facts.simulated,
        )
        made = self._here(report, pair, data, timed) if found is None else found.into(report)
        with timed.stage("look off target"):
            made = self._off_target(made, pair, data[0].feeds)
        ends = reference.decoder
        said = made_notes(ends, data[0].feeds) if ends is not None else []
        measured = replace(made.measured, steps=tuple(timed.steps))
        return replace(made, notes=(*said, *made.notes), measured=measured)

    def _off_target(self, report: CheckReport, pair: measure.Pair, feeds: Feeds) -> CheckReport:
        """The report with what leaves the target, or a note where that cannot be told and no limit
        hangs on it.
        """
        target = pair.target or load_target(host_target())
        try:
            offload, notes = look(pair.artefact, target, pair.backend)
        except QCompileError as error:
            if self.off_limits.any:
                raise
            note = Note("info", f"what leaves {target.name} cannot be told: {error.message}")
            return replace(report, notes=(*report.notes, note))
        timed = self.latency and not self.devices.specs
        share = measure.off_share(pair, offload, feeds) if timed else None
        return replace(
            report,
            offload=offload,
            measured=replace(report.measured, off_share=share),
            gates=(*report.gates, *judge_offload(self.off_limits, offload)),
            notes=(*report.notes, *notes),
        )

    def _check_options(self) -> None:
        """Refuse what cannot be done, before anything is read.

        Raises:
            QCompileError: BAD_OPTION.
        """
        if not self.devices.specs:
            check_limits(self.limits, ())
            if self.bisect:
                raise QCompileError(Code.BAD_OPTION, "--bisect needs --device")

    def _here(
        self, report: CheckReport, pair: measure.Pair, data: Dataset, timed: Timed
    ) -> CheckReport:
        """Accuracy and latency in this process."""
        with timed.stage("judge", len(data)) as counter:
            which = f"{len(data)} samples of {data.name}"
            accuracy = measure.accuracy(pair, data, which, self.threads, counter, self.metric)
        times = measure.Times(why="not asked for")
        if pair.facts.simulated:
            times = measure.Times(why="the time of a simulation says nothing")
        elif self.latency:
            with timed.stage("time"):
                times = measure.times(pair, data[0].feeds, memory=True)
        return replace(
            report,
            accuracy=accuracy,
            gates=judge(self.limits, accuracy, times.latency),
            measured=Measured(latency=times.latency, no_latency=times.why, decoding=times.decoding),
        )

    def _on_devices(self, pair: measure.Pair, data: Dataset, timed: Timed) -> Checked:
        """Everything on each of the devices that were named."""
        with timed.stage("open the devices"), ExitStack() as stack:
            devices = stack.enter_context(open_devices(self.devices))
            closing = stack.pop_all()
        with closing:
            check_limits(self.limits, [device.info for device in devices])
            tried = OnDevices(
                pair,
                self.devices,
                data,
                data[0].feeds,
                latency=self.latency,
                threads=self.threads,
                metric=self.metric,
            ).run(devices, timed)
            across = self._across(pair, devices, data, timed)
        return Checked(tuple(tried), judge_each(self.limits, tried), across)

    def _across(
        self, pair: measure.Pair, devices: Sequence[Device], data: Dataset, timed: Timed
    ) -> Across | None:
        """The same samples on several devices, held against our integer reference."""
        if len(devices) < 2 and not self.bisect:
            return None
        few = evenly(data, self.devices.samples or ACROSS_SAMPLES)
        feeds = [as_given(few[i].feeds, pair.facts.ends) for i in range(len(few))]
        with timed.stage("compare the devices", len(few) * len(devices)) as counter:
            inside = look_inside(self.artefact, self.shapes)
            return compare_across(inside, devices, feeds, counter, search=self.bisect)

    def _describe(self, backend: Backend) -> ModelInfo:
        """What the artefact is; a file that is no model ends here, with its own error."""
        if backend.runs_float_file:
            compiled = load_onnx(self.artefact, self.shapes, allow_integer=True)
            return measure.file_info(self.artefact, compiled)
        data = read_model_file(self.artefact)
        return measure.artefact_info(data, backend.facts(data), self.artefact.name)

    def _open(self, signature: Signature, reference: measure.Reference, timed: Timed) -> Dataset:
        source = self.config.data_source("eval", self.data) or self.config.data_source(
            "calibration", None
        )
        if source is None:
            raise QCompileError(Code.NO_DATA, "a check needs samples to run on", hint=WAYS)
        with timed.stage("open the samples"):
            return open_samples(source, signature, self.config, reference.session)
