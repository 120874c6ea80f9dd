"""``check``: a finished artefact against its float model, and the gates it is held to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import qcompile
from qcompile.compiler import measure
from qcompile.compiler.config import Config
from qcompile.compiler.data.dataset import Dataset
from qcompile.compiler.data.open import WAYS, open_data
from qcompile.compiler.data.options import DataSpec
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.importers.reading import read_model_file
from qcompile.compiler.progress import Progress, Timed
from qcompile.compiler.report.latency import Latency
from qcompile.compiler.report.model import CheckReport, Measured, ModelInfo
from qcompile.compiler.verify.gates import Limits, judge
from qcompile.compiler.verify.user_metric import UserMetric
from qcompile.core.backend import Backend
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note
from qcompile.core.signature import Signature
from qcompile.targets.backends import backend_for_file


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

    def run(self) -> CheckReport:
        """Load both, run both, judge."""
        timed = Timed(self.progress)
        with timed.stage("import"):
            imported = load_onnx(self.reference, self.shapes)
            backend = backend_for_file(self.artefact)
            described = self._describe(backend)
            facts = backend.facts(self.artefact)
        data = self._open(imported.signature)
        notes: list[Note] = []
        reference = measure.Reference(self.reference, self.shapes)
        target = measure.known_target(facts.target)
        pair = measure.Pair(reference, self.artefact, backend, facts, target)
        with timed.stage("judge", len(data)) as counter:
            which = f"{len(data)} samples of {data.name}"
            accuracy = measure.accuracy(pair, data, which, self.threads, counter, self.metric)
        latency: Latency | None = None
        why = "not asked for"
        if facts.simulated:
            why = "the time of a simulation says nothing"
        elif self.latency:
            with timed.stage("time"):
                latency, why = measure.latency(pair, data[0].feeds)
        return CheckReport(
            qcompile_version=qcompile.__version__,
            artefact=described,
            reference=measure.file_info(self.reference, imported),
            accuracy=accuracy,
            gates=judge(self.limits, accuracy, latency),
            notes=tuple(notes),
            simulated=facts.simulated,
            measured=Measured(latency=latency, no_latency=why, steps=tuple(timed.steps)),
        )

    def _describe(self, backend: Backend) -> ModelInfo:
        """What the artefact is; a file that is no model ends here, with its own error."""
        if backend.runs_float_file:
            compiled = load_onnx(self.artefact, self.shapes, allow_integer=True)
            return measure.file_info(self.artefact, compiled)
        data = read_model_file(self.artefact)
        return measure.artefact_info(data, backend.facts(data), self.artefact.name)

    def _open(self, signature: Signature) -> Dataset:
        source = self.config.data_source("eval", self.data) or self.config.data_source(
            "calibration", None
        )
        if source is None:
            raise QCompileError(Code.NO_DATA, "a check needs samples to run on", hint=WAYS)
        spec, options = source
        return open_data(spec, signature, self.config.preprocess, options=options)
