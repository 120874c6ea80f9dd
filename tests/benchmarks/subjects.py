"""The models that quantizers are compared on: their samples, and how an artefact is judged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

from qcompile.core.executor import Feeds
from tests.models import imagenet, minilm
from tests.models.running import absent, accuracy, agreement, script, session, sqnr

CARRIERS = frozenset(
    ("QuantizeLinear", "DequantizeLinear", "Identity", "Reshape", "Flatten", "Squeeze", "Cast")
)
"""What may stand between a Softmax and the output."""


class Judge(Protocol):
    """Compares artefacts with the float model."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What is compared."""

    def row(self, artefact: Path) -> tuple[str, ...]:
        """A figure a column."""


@dataclass(frozen=True)
class Subject:
    """One float model. The functions load: nothing is kept for models that are not asked for."""

    title: str
    data: str
    """How much calibrates and how much judges."""
    model: Path
    calibration: Callable[[], list[Feeds]]
    evaluation: Callable[[], list[Feeds]]
    judge: Callable[[], Judge]

    def timed(self) -> Feeds:
        """What one timed run is fed."""
        return self.evaluation()[0]


@dataclass(frozen=True)
class Classes:
    """A classifier whose output is a Softmax: judged by its choices, and by the Softmax's input."""

    model: Path
    x: np.ndarray
    labels: np.ndarray
    columns: tuple[str, ...] = ("top-1 %", "lost", "agreement %", "logits dB", "p dB")

    @cached_property
    def reference(self) -> tuple[np.ndarray, np.ndarray]:
        """What the float model says: probabilities and logits."""
        return scores(self.model, self.x)

    def row(self, artefact: Path) -> tuple[str, ...]:
        p, logits = self.reference
        got, got_logits = scores(artefact, self.x)
        lost = accuracy(p, self.labels) - accuracy(got, self.labels)
        return (
            f"{100 * accuracy(got, self.labels):.2f}",
            f"{100 * lost:+.2f}",
            f"{100 * agreement(p, got):.1f}",
            _db(logits, got_logits),
            _db(p, got),
        )


def scores(model: Path, x: np.ndarray, batch: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and the input of the Softmax they come from, N x classes each."""
    proto = onnx.load(model)
    makers = {name: node for node in proto.graph.node for name in node.output}
    node = makers[proto.graph.output[0].name]
    while node.op_type in CARRIERS:
        node = makers[node.input[0]]
    if node.op_type != "Softmax":
        raise ValueError(f"{model}: the output comes from {node.op_type}, not from a Softmax")
    proto.graph.output.append(onnx.ValueInfoProto(name=node.input[0]))
    loaded = session(proto.SerializeToString())
    name = loaded.get_inputs()[0].name
    found = [loaded.run(None, {name: x[k : k + batch]}) for k in range(0, len(x), batch)]
    p, logits = (np.concatenate([run[k] for run in found]) for k in range(2))
    return p, logits.reshape(p.shape)


@dataclass(frozen=True)
class Sentences:
    """A sentence encoder: judged by how it ranks pairs, ``metrics`` of the encoder's own script."""

    model: Path
    batches: list[Feeds]
    metrics: Callable[[np.ndarray, np.ndarray], dict[str, Any]]
    columns: tuple[str, ...] = ("gold Spearman", "Spearman with float", "cosine", "embedding dB")

    @cached_property
    def reference(self) -> np.ndarray:
        """The float model's embeddings."""
        return self.embed(self.model)

    def row(self, artefact: Path) -> tuple[str, ...]:
        reference, got = self.reference, self.embed(artefact)
        found = self.metrics(got, reference)
        return (
            f"{found['spearman_gold']:.4f}",
            f"{found['spearman_float']:.5f}",
            f"{found['cosine_to_float']:.5f}",
            _db(reference, got),
        )

    def embed(self, model: Path) -> np.ndarray:
        loaded = session(model)
        return np.concatenate([loaded.run(["sentence_embedding"], b)[0] for b in self.batches])


def _db(reference: np.ndarray, got: np.ndarray) -> str:
    return "inf" if np.array_equal(reference, got) else f"{sqnr(reference, got):.1f}"


def mobilenet(models: Path) -> Subject:
    """MobileNet v1 0.75 on ImageNet."""
    model = models / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx"
    paths = imagenet.evaluation(models)

    def load(chosen: list[Path]) -> list[Feeds]:
        return [{"input": imagenet.load([path])} for path in chosen]

    return Subject(
        "MobileNet v1 0.75",
        "125 pictures calibrate, 625 judge",
        model,
        lambda: load(imagenet.calibration(models)),
        lambda: load(paths),
        lambda: Classes(model, imagenet.load(paths), imagenet.labels(paths)),
    )


def resnet8(models: Path) -> Subject:
    """MLPerf Tiny's ResNet-8 on CIFAR-10."""
    folder = models / "mlperf_tiny"
    model = folder / "resnet8_cifar10.onnx"

    def load(name: str) -> tuple[np.ndarray, np.ndarray]:
        with np.load(folder / name) as arrays:
            return np.float32(arrays["x"]), arrays["y"]

    def singles(name: str) -> list[Feeds]:
        return [{"input_1": picture[None]} for picture in load(name)[0]]

    return Subject(
        "ResNet-8",
        "200 pictures calibrate, 1300 judge",
        model,
        lambda: singles("cifar10_calibration.npz"),
        lambda: singles("cifar10_test.npz"),
        lambda: Classes(model, *load("cifar10_test.npz")),
    )


def encoder(models: Path) -> Subject:
    """all-MiniLM-L6-v2 on sentences."""
    folder = minilm.fetch(models)
    model = folder / "model.onnx"

    def batches(kind: str) -> list[Feeds]:
        return [dict(np.load(path)) for path in sorted((folder / kind).iterdir())]

    def judge() -> Judge:
        with absent("tokenizers", Tokenizer=None):
            metrics = script(models / "encoder" / "evaluate.py").metrics
        return Sentences(model, batches("evaluation"), metrics)

    return Subject(
        "all-MiniLM-L6-v2",
        "256 sentences calibrate, 200 judge, 16 at a time",
        model,
        lambda: batches("calibration"),
        lambda: batches("evaluation"),
        judge,
    )


SUBJECTS: Mapping[str, Callable[[Path], Subject]] = {
    "mobilenet": mobilenet,
    "resnet8": resnet8,
    "minilm": encoder,
}
