"""TFLite: ours beside TFLiteConverter, ai-edge-quantizer and onnx2tf, MobileNet, all in one run.

The peers need TensorFlow: they are installed once, 4 GB, into environments of their own in the
cache folder, which may be deleted at any time. A peer that cannot be had is a row that says why.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from tests.benchmarks.workshop import FLOAT, OURS, ROOT, Cost, Workshop
from tests.conftest import has_litert
from tests.models import imagenet
from tests.models.minilm import cache_folder
from tests.models.running import accuracy, agreement, run, session, sqnr

TARGET = "tflite-x86"
ROUNDS = 200
WARM_UP = 20
PATIENCE_S = 900
"""Of one conversion or installation."""
VERSION = "tflite-peers-1"
"""Of the environments in the cache; raise it with what is in them."""


@dataclass(frozen=True)
class Environment:
    """What is installed for a peer, and what is imported once so that no run has to compile it."""

    packages: tuple[str, ...]
    warm_up: str


ENVIRONMENTS = {
    "tensorflow": Environment(
        ("tensorflow-cpu==2.21.0", "ai-edge-litert==2.3.0", "ai-edge-quantizer==0.10.0"),
        "import keras, tensorflow, ai_edge_quantizer.quantizer; tensorflow.lite.TFLiteConverter",
    ),
    "onnx2tf": Environment(
        ("onnx2tf==1.29.24",),  # the last for Python 3.11
        "import onnx2tf, onnxruntime; onnx2tf.convert",
    ),
}

PEER_FLOAT = "TFLiteConverter float"


@dataclass(frozen=True)
class Peer:
    """One conversion: a job of ``tflite_child``, where it runs, and what it starts from."""

    name: str
    job: str
    environment: str
    source: str


PEERS = (
    Peer(PEER_FLOAT, "keras_float", "tensorflow", ".keras"),
    Peer("TFLiteConverter int8", "keras_int8", "tensorflow", ".keras"),
    Peer("ai-edge-quantizer int8", "edge_int8", "tensorflow", PEER_FLOAT),
    Peer("onnx2tf -oiqt int8", "onnx2tf_int8", "onnx2tf", ".onnx"),
)


class Unavailable(Exception):  # noqa: N818 - no error: it becomes a row
    """Why there is no such artefact."""


@dataclass(frozen=True)
class Made:
    """One artefact, and what it took to make it."""

    name: str
    path: Path
    cost: Cost
    cpu: float
    """Seconds of all cores, which a busy machine stretches less than the wall time."""

    @property
    def is_float(self) -> bool:
        return FLOAT in self.name


@dataclass
class Bench:
    """The artefacts of this run, and why some are missing."""

    shop: Workshop
    made: list[Made] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def make(self, name: str, output: Path, job: Callable[[], Cost]) -> None:
        """Run one conversion, and keep what it made or why it did not."""
        before = _cpu_of_children()
        try:
            cost = job()
        except Unavailable as reason:
            self.missing[name] = str(reason)
        else:
            self.made.append(Made(name, output, cost, _cpu_of_children() - before))

    def source(self, kind: str) -> Path:
        """The model that a conversion starts from."""
        if kind.startswith("."):
            return self.shop.model.with_suffix(kind)
        found = [made.path for made in self.made if made.name == kind]
        if not found:
            raise Unavailable(f"needs the file of {kind}")
        return found[0]


def tables(shop: Workshop) -> list[Table]:
    """Accuracy and cost, latency, and what could not be measured."""
    if not has_litert():
        return [_missing({"all": "LiteRT is not installed: make setup-all"})]
    shop = Workshop(shop.models, shop.folder, TARGET)
    bench = Bench(shop)
    judged = make_ours(bench)
    data = shop.folder / "calibration.npy"
    np.save(data, _nhwc(imagenet.load(shop.calibration)))
    for peer in PEERS:
        make_peer(bench, peer, data)
    parts = [accuracy_table(bench, judged), latency_table(bench)]
    return parts + ([_missing(bench.missing)] if bench.missing else [])


def make_ours(bench: Bench) -> Cost:
    """Build the float and the integer artefact; what the build takes that judges 625 pictures.

    The build that is compared with the peers' conversions, which judge nothing, judges one picture:
    then all 125 calibrate, and none is held out.
    """
    shop = bench.shop
    calibration = shop.pictures("calibration", shop.calibration)
    one = shop.pictures("one", imagenet.evaluation(shop.models)[:1])
    everything = shop.pictures("evaluation", imagenet.evaluation(shop.models))
    ours, plain = shop.folder / "ours.tflite", shop.folder / "float.tflite"

    def build_float() -> Cost:
        arguments = ("build", str(shop.model), "-t", TARGET, "-o", str(plain))
        return shop.child("qcompile", *arguments, "--scheme", "float", "--no-latency")

    bench.make(f"qcompile {FLOAT}", plain, build_float)
    bench.make(OURS, ours, lambda: shop.build(calibration, ours, "--eval", str(one)))
    judged = shop.folder / "judged.tflite"
    return shop.build(calibration, judged, "--eval", str(everything))


def make_peer(bench: Bench, peer: Peer, data: Path) -> None:
    """Install the peer if need be, and let it convert."""
    output = bench.shop.folder / f"{peer.job}.tflite"
    try:
        python = installed(peer.environment)
        source = bench.source(peer.source)
    except Unavailable as reason:
        bench.missing[peer.name] = str(reason)
        return

    def job() -> Cost:
        note = bench.shop.folder / "peer.json"
        module = (python, "-m", "tests.benchmarks.tflite_child", note)
        _command(*module, peer.job, source, data, output, folder=bench.shop.folder)
        return Cost(**json.loads(note.read_text()))

    bench.make(peer.name, output, job)


def installed(name: str) -> Path:
    """The Python of an environment, installed when it is missing."""
    folder = cache_folder().parent / VERSION / name
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        environment = ENVIRONMENTS[name]
        folder.parent.mkdir(parents=True, exist_ok=True)
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _command(sys.executable, "-m", "venv", "--clear", folder, folder=folder.parent)
        _command(*pip, "--no-compile", *environment.packages, folder=folder)
        _command(python, "-c", environment.warm_up, folder=folder)
        done.touch()
    return python


def _command(*command: object, folder: Path) -> None:
    """Run a command with its own folder on the path: onnx2tf calls onnxsim, or does without.

    Raises:
        Unavailable: with the last error of which it told.
    """
    path = f"{Path(str(command[0])).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        done = subprocess.run(
            list(map(str, command)),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"not done after {PATIENCE_S} s") from None
    if done.returncode:
        said = done.stdout.strip().splitlines() or [f"exit code {done.returncode}"]
        errors = [line for line in said if "error" in line.lower()]
        raise Unavailable((errors or said)[-1])


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def accuracy_table(bench: Bench, judged: Cost) -> Table:
    """One row an artefact, on the 625 evaluation pictures under LiteRT with XNNPACK."""
    x, labels = bench.shop.evaluation
    reference = run(session(bench.shop.model), x)
    size = bench.shop.model.stat().st_size
    table = Table(
        *("candidate", "top-1 %", "lost, points", "agreement %", "SQNR dB"),
        *("size", "seconds", "CPU s", "peak MB"),
        title=f"TFLite on 625 pictures (SQNR of the probabilities; size of the {size} bytes of the "
        "float ONNX), one conversion each",
        caption="float: the ONNX in ONNX Runtime. Seconds with start-up, each by itself: "
        "ai-edge-quantizer's come after TFLiteConverter float's, onnx2tf's are for all files that "
        f"-oiqt writes. qcompile that also judges 625 pictures: {judged.seconds:.1f} s, "
        f"{judged.peak_mb:.0f} MB",
    )
    table.add_row(FLOAT, f"{100 * accuracy(reference, labels):.2f}")
    for made in bench.made:
        p = outputs(made.path, x)
        table.add_row(
            _name(made),
            f"{100 * accuracy(p, labels):.2f}",
            f"{100 * (accuracy(reference, labels) - accuracy(p, labels)):+.2f}",
            f"{100 * agreement(reference, p):.1f}",
            f"{sqnr(reference, p):.1f}",
            f"{made.path.stat().st_size / size:.2%}",
            f"{made.cost.seconds:.1f}",
            f"{made.cpu:.1f}",
            f"{made.cost.peak_mb:.0f}",
        )
    return table


def latency_table(bench: Bench) -> Table:
    """One thread, one picture, all in turn, medians; ratios to the fastest float and int8 peer."""
    made = bench.made
    seconds = measure([artefact.path for artefact in made], bench.shop.evaluation[0])
    medians = np.median(seconds, axis=0)
    base = min((k for k, m in enumerate(made) if m.is_float), key=lambda k: medians[k])
    rivals = [k for k, m in enumerate(made) if not m.is_float and m.name != OURS]
    rival = min(rivals, key=lambda k: medians[k], default=None)
    table = Table(
        *("candidate", "median ms", f"x {made[base].name}", "quartiles"),
        "x fastest int8 peer" if rival is None else f"x {made[rival].name}",
        title=f"LiteRT with XNNPACK: CPU time of one thread, {ROUNDS} interleaved rounds",
    )
    for number, artefact in enumerate(made):
        low, high = np.quantile(seconds[:, number] / seconds[:, base], [0.25, 0.75])
        table.add_row(
            _name(artefact),
            f"{1e3 * medians[number]:.2f}",
            f"{medians[number] / medians[base]:.3f}",
            f"{low:.3f} - {high:.3f}",
            "" if rival is None else f"{medians[number] / medians[rival]:.3f}",
        )
    return table


def measure(paths: Sequence[Path], x: np.ndarray) -> np.ndarray:
    """CPU seconds of single runs, rounds x artefacts; feeding and reading are not counted.

    The one thread is the one that calls, so that its own clock leaves out what others ran on the
    machine meanwhile. The order is drawn anew in each round: none always follows the largest.
    """
    models = [opened(path) for path in paths]
    for model in models:
        feed(model, _nhwc(x[:1]))
    draw = np.random.default_rng(0)
    seconds = np.empty((ROUNDS, len(models)))
    for round_ in range(-WARM_UP, ROUNDS):
        for number in draw.permutation(len(models)):
            start = time.thread_time()
            models[number].invoke()
            seconds[round_, number] = time.thread_time() - start
    return seconds


def opened(path: Path) -> Any:
    """The model as an app loads it: one thread, XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    """Real outputs, picture by picture, whatever the types of the ends."""
    model = opened(path)
    (end,) = model.get_output_details()
    scale, zero_point = end["quantization"]
    found = []
    for picture in _nhwc(x):
        feed(model, picture[None])
        model.invoke()
        y = model.get_tensor(end["index"])
        found.append(y if not scale else (np.float32(y) - zero_point) * np.float32(scale))
    return np.concatenate(found)


def feed(model: Any, x: np.ndarray) -> None:
    """Set the only input, quantized as it says."""
    (end,) = model.get_input_details()
    scale, zero_point = end["quantization"]
    if scale:
        limits = np.iinfo(end["dtype"])
        x = np.clip(np.rint(x / np.float32(scale)) + zero_point, limits.min, limits.max)
    model.set_tensor(end["index"], x.astype(end["dtype"]))


def _nhwc(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def _name(made: Made) -> str:
    return f"[bold]{made.name}" if made.name == OURS else made.name


def _missing(reasons: dict[str, str]) -> Table:
    table = Table("candidate", "why", title="TFLite: not measured")
    for name, reason in reasons.items():
        table.add_row(name, reason)
    return table
