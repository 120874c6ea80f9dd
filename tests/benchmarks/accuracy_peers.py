"""Ours beside ONNX Runtime's tools, NNCF, AIMET and AMD Quark: accuracy and cost, one runtime.

Same calibration samples for all, each peer in the best of its reasonable configurations, every
artefact run in this Python's ONNX Runtime. NNCF, AIMET and Quark are installed once into
environments in the cache folder. Three quarters of an hour; with the names of models, only those:

python -m tests.benchmarks.accuracy_peers [MODEL ...]
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from qcompile.core.executor import Feeds
from qcompile.targets.host import host_target
from tests.benchmarks.environments import (
    Environment,
    Made,
    Unavailable,
    command,
    cpu_of_children,
    environments_folder,
    installed,
    missing,
)
from tests.benchmarks.subjects import SUBJECTS, Subject
from tests.benchmarks.workshop import FLOAT, Cost, Workshop
from tests.conftest import MODELS_VARIABLE, find_models
from tests.models.running import session

ROUNDS = 100
WARM_UP = 10
PATIENCE_S = 300
"""Of one quantization by a peer."""
VERSION = "accuracy-peers-1"
"""Of the environments in the cache; raise it with what is in them."""

ENVIRONMENTS = {
    "nncf": Environment(
        ("nncf==3.4.0", "onnx==1.22.0", "onnxruntime==1.32.0", "onnxsim==0.8.1"),
        "import nncf, nncf.onnx, onnxsim",
    ),
    "torch": Environment(
        (
            *("aimet-onnx==2.42.0", "amd-quark==0.13", "torch==2.13.0", "setuptools"),
            *("onnx==1.22.0", "onnxruntime==1.32.0"),
        ),
        "import aimet_onnx, quark.onnx",
    ),
}
HERE = ""
"""The environment that needs no other: this Python's."""


@dataclass(frozen=True)
class Peer:
    """One quantization: a job of ``accuracy_child``, where it runs, and what it starts from."""

    name: str
    job: str
    environment: str = HERE
    source: str = FLOAT


SIMPLIFIED = "onnxsim float"
STATIC = (
    Peer(SIMPLIFIED, "onnxsim", "nncf"),
    Peer("ORT U8S8 per-channel", "ort_static"),
    Peer("ORT U8S8 per-channel, onnxsim", "ort_static", source=SIMPLIFIED),
    Peer("ORT U8S8 per-channel, reduce_range", "ort_reduced"),
    Peer("NNCF PERFORMANCE", "nncf_performance", "nncf"),
    Peer("NNCF MIXED", "nncf_mixed", "nncf"),
    Peer("NNCF MIXED, fast correction", "nncf_fast", "nncf"),
    Peer("AIMET CLE", "aimet_cle", "torch"),
    Peer("AIMET AdaRound", "aimet_adaround", "torch"),
    Peer("AIMET CLE + AdaRound", "aimet_cle_adaround", "torch"),
    Peer("Quark XINT8, CLE", "quark_xint8", "torch"),
    Peer("Quark A8W8, CLE", "quark_a8w8", "torch"),
    Peer("Quark U8S8 per-channel, CLE", "quark_channel", "torch"),
    Peer("Quark the same, AdaRound", "quark_adaround", "torch"),
)
TRANSFORMER = (
    Peer(SIMPLIFIED, "onnxsim", "nncf"),
    Peer("ORT dynamic per-tensor", "ort_dynamic"),
    Peer("ORT dynamic per-channel", "ort_dynamic_channel"),
    Peer("ORT U8S8 per-channel", "ort_static"),
    Peer("NNCF TRANSFORMER", "nncf_transformer", "nncf"),
)
PEERS = {"mobilenet": STATIC, "resnet8": STATIC, "minilm": TRANSFORMER}

OURS = {
    "qcompile fast": ("--effort", "fast"),
    "qcompile balanced": ("--effort", "balanced"),
    "qcompile max": ("--effort", "max", "--time-budget", "5m"),
}


@dataclass
class Bench:
    """One model's artefacts of this run, and why some are missing."""

    subject: Subject
    shop: Workshop
    folder: Path
    made: list[Made] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def ours(self) -> None:
        """Build with each effort; one sample is judged, so that no calibration sample is."""
        judged = save(self.subject.evaluation()[:1], self.folder / "judged")
        for name, options in OURS.items():
            output = self.folder / f"{name.split()[-1]}.onnx"
            arguments = ("build", str(self.subject.model), "-t", self.shop.target)
            data = ("-d", str(self.folder / "calibration"), "--eval", str(judged))
            before = cpu_of_children()
            cost = self.shop.child(
                "qcompile", *arguments, *data, "-o", str(output), "--no-latency", *options
            )
            self.made.append(Made(name, output, cost, cpu_of_children() - before))

    def peer(self, peer: Peer) -> None:
        """Let a peer quantize; keep what it made, or why it did not."""
        output, note = self.folder / f"{len(self.made)}.onnx", self.folder / "peer.json"
        try:
            python = interpreter(peer.environment)
            before = cpu_of_children()
            module = (python, "-m", "tests.benchmarks.accuracy_child", note, peer.job)
            files = (self.source(peer.source), self.folder / "calibration", output)
            command(*module, *files, folder=self.folder, patience=PATIENCE_S)
            ensure_loads(output)
        except Unavailable as reason:
            self.missing[f"{self.subject.title}: {peer.name}"] = str(reason)
        else:
            cost = Cost(**json.loads(note.read_text()))
            self.made.append(Made(peer.name, output, cost, cpu_of_children() - before))

    def source(self, name: str) -> Path:
        """The model that a quantization starts from."""
        if name == FLOAT:
            return self.subject.model
        found = [made.path for made in self.made if made.name == name]
        if not found:
            raise Unavailable(f"needs the file of {name}")
        return found[0]

    def table(self) -> Table:
        """One row an artefact."""
        subject = self.subject
        judge = subject.judge()
        latency = measure([subject.model, *(m.path for m in self.made)], subject.timed())
        medians = np.median(latency, axis=0)
        size = subject.model.stat().st_size
        table = Table(
            *("candidate", *judge.columns, "x float ms", "size", "seconds", "CPU s", "peak MB"),
            title=f"{subject.title}, {subject.data} (float: {size} bytes, "
            f"{1e3 * medians[0]:.2f} ms of CPU, one thread, {ROUNDS} interleaved rounds)",
            caption="seconds and peak memory of one quantization with start-up, in its own process",
        )
        table.add_row(FLOAT, *judge.row(subject.model))
        for number, made in enumerate(self.made, start=1):
            table.add_row(
                f"[bold]{made.name}" if made.name in OURS else made.name,
                *judge.row(made.path),
                f"{medians[number] / medians[0]:.3f}",
                f"{made.path.stat().st_size / size:.1%}",
                f"{made.cost.seconds:.1f}",
                f"{made.cpu:.1f}",
                f"{made.cost.peak_mb:.0f}",
            )
        return table


def tables(shop: Workshop, names: Iterable[str] = tuple(SUBJECTS)) -> Iterator[Table]:
    """A table a model as soon as it is measured, and what could not be."""
    reasons: dict[str, str] = {}
    for name in names:
        subject = SUBJECTS[name](shop.models)
        folder = shop.folder / name
        save(subject.calibration(), folder / "calibration")
        bench = Bench(subject, shop, folder)
        bench.ours()
        for peer in PEERS[name]:
            bench.peer(peer)
        yield bench.table()
        reasons |= bench.missing
    if reasons:
        yield missing("Peers: not measured", reasons)


def save(samples: Sequence[Feeds], folder: Path) -> Path:
    """One .npz a sample."""
    folder.mkdir(parents=True)
    for number, sample in enumerate(samples):
        np.savez(folder / f"{number:04}.npz", **sample)
    return folder


def ensure_loads(model: Path) -> None:
    """Whether the runtime of this comparison takes a model.

    Raises:
        Unavailable: with what the runtime says.
    """
    try:
        session(model)
    except Exception as error:  # the runtime's exceptions have no base of their own
        raise Unavailable(str(error).strip().splitlines()[-1]) from error


def interpreter(environment: str) -> Path:
    """The Python that a peer runs under."""
    if environment == HERE:
        return Path(sys.executable)
    return installed(environments_folder(VERSION) / environment, ENVIRONMENTS[environment])


def measure(paths: Sequence[Path], feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    """CPU seconds of the one thread, rounds x artefacts, in an order drawn anew each round."""
    models = [session(path, threads=1) for path in paths]
    draw = np.random.default_rng(0)
    seconds = np.empty((ROUNDS, len(models)))
    for round_ in range(-WARM_UP, ROUNDS):
        for number in draw.permutation(len(models)):
            start = time.thread_time()
            models[number].run(None, feeds)
            seconds[round_, number] = time.thread_time() - start
    return seconds


def main() -> None:
    """Print the tables of the models that are named, or of all."""
    models = find_models()
    if models is None:
        sys.exit(f"the benchmark needs the real models: set {MODELS_VARIABLE} to their folder")
    console = Console(width=None if sys.stdout.isatty() else 150)
    with tempfile.TemporaryDirectory() as scratch:
        shop = Workshop(models, Path(scratch), host_target())
        for table in tables(shop, sys.argv[1:] or tuple(SUBJECTS)):
            console.print(table)


if __name__ == "__main__":
    main()
