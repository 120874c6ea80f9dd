"""TFLite: ours beside TFLiteConverter, ai-edge-quantizer and onnx2tf, MobileNet, all in one run.

The peers need TensorFlow: they are installed once, 4 GB, into environments of their own in the
cache folder, which may be deleted at any time. A peer that cannot be had is a row that says why.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

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
from tests.benchmarks.workshop import FLOAT, OURS, Cost, Workshop
from tests.conftest import has_litert
from tests.models import imagenet
from tests.models.running import accuracy, agreement, run, session, sqnr

TARGET = "tflite-x86"
BALANCED = f"{OURS}, effort balanced"
"""Ours as built by default; ``OURS`` alone is effort fast, which tries nothing out."""
ROUNDS = 200
WARM_UP = 20
VERSION = "tflite-peers-1"
"""Of the environments in the cache; raise it with what is in them."""


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

NOT_MEASURED = "TFLite: not measured"
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


@dataclass
class Bench:
    """The artefacts of this run, and why some are missing."""

    shop: Workshop
    made: list[Made] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def make(self, name: str, output: Path, job: Callable[[], Cost]) -> None:
        """Run one conversion, and keep what it made or why it did not."""
        before = cpu_of_children()
        try:
            cost = job()
        except Unavailable as reason:
            self.missing[name] = str(reason)
        else:
            self.made.append(Made(name, output, cost, cpu_of_children() - before))

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
        return [missing(NOT_MEASURED, {"all": "LiteRT is not installed: make setup-all"})]
    shop = Workshop(shop.models, shop.folder, TARGET)
    bench = Bench(shop)
    judged = make_ours(bench)
    data = shop.folder / "calibration.npy"
    np.save(data, _nhwc(imagenet.load(shop.calibration)))
    for peer in PEERS:
        make_peer(bench, peer, data)
    parts = [accuracy_table(bench, judged), latency_table(bench)]
    return parts + ([missing(NOT_MEASURED, bench.missing)] if bench.missing else [])


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
    tried, effort = shop.folder / "balanced.tflite", ("--eval", str(one), "--effort", "balanced")
    bench.make(BALANCED, tried, lambda: shop.build(calibration, tried, *effort))
    judged = shop.folder / "judged.tflite"
    return shop.build(calibration, judged, "--eval", str(everything))


def make_peer(bench: Bench, peer: Peer, data: Path) -> None:
    """Install the peer if need be, and let it convert."""
    output = bench.shop.folder / f"{peer.job}.tflite"
    try:
        folder = environments_folder(VERSION) / peer.environment
        python = installed(folder, ENVIRONMENTS[peer.environment])
        source = bench.source(peer.source)
    except Unavailable as reason:
        bench.missing[peer.name] = str(reason)
        return

    def job() -> Cost:
        note = bench.shop.folder / "peer.json"
        module = (python, "-m", "tests.benchmarks.tflite_child", note)
        command(*module, peer.job, source, data, output, folder=bench.shop.folder)
        return Cost(**json.loads(note.read_text()))

    bench.make(peer.name, output, job)


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
    base = min((k for k, m in enumerate(made) if FLOAT in m.name), key=lambda k: medians[k])
    rivals = [k for k, m in enumerate(made) if FLOAT not in m.name and OURS not in m.name]
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
