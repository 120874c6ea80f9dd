"""Side by side with TFLiteConverter, by whom the same rules were implemented too: the same network
and samples give the same scales and weights.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import qcompile
from qcompile.core.ends import FloatEnds
from qcompile.targets.tflite.backend import TfliteBackend
from qcompile.targets.tflite.reading import Graph, Operator, Tensor, read_graph
from tests.conftest import ROOT
from tests.models import imagenet
from tests.models.running import accuracy

pytestmark = pytest.mark.tensorflow

DIGITS = ROOT / "examples" / "digits"
ULPS = 4 * 2.0**-23
"""Scales differ in the last bits: batch normalization is folded in another order of steps."""
FORM = {"RESHAPE", "QUANTIZE", "SHAPE", "PACK", "STRIDED_SLICE"}
"""Operators that compute nothing, and of which each has its own."""


def converted(model: Path, samples: np.ndarray, folder: Path) -> Path:
    """TFLiteConverter's file. ``samples``: float32, channels last."""
    calibration, output = folder / "calibration.npy", folder / "theirs.tflite"
    np.save(calibration, samples)
    command = [sys.executable, "-m", "tests.targets.tflite.tensorflow_child"]
    done = subprocess.run(
        [*command, str(model), str(calibration), str(output)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return output


def probabilities(path: Path, x: np.ndarray) -> np.ndarray:
    """The only output for float32 samples in the order of axes of the file's own ends."""
    backend = TfliteBackend()
    model = FloatEnds(backend.open(path), backend.facts(path).ends)
    (name,) = model.input_names
    return np.concatenate([model.run({name: sample[None]})[0] for sample in x])


def computing(graph: Graph) -> list[Operator]:
    return [operator for operator in graph.operators if operator.name not in FORM]


def weight(graph: Graph, operator: Operator) -> Tensor | None:
    second = graph.tensor(operator.inputs[1]) if len(operator.inputs) > 1 else None
    return second if second is not None and second.dtype == "int8" else None


def test_the_example_has_their_scales_and_weights(tmp_path: Path) -> None:
    built = qcompile.build(
        DIGITS / "digits.onnx", target="tflite-x86", effort="fast", latency=False,
        data=DIGITS / "calibration.npz", eval_data=DIGITS / "test.npz",
        config=DIGITS / "qcompile.toml", out=tmp_path / "ours.tflite",
    )  # fmt: skip
    with np.load(DIGITS / "calibration.npz") as file:
        samples = (file["input"].astype(np.float32) / 16).transpose(0, 2, 3, 1)
    theirs_path = converted(DIGITS / "digits.onnx", samples, tmp_path)
    ours, theirs = read_graph(built.artefact), read_graph(theirs_path.read_bytes())
    pairs = list(zip(computing(ours), computing(theirs), strict=True))
    assert len(pairs) == 8
    for one, other in pairs:
        assert one.name == other.name
        a, b = ours.tensors[one.outputs[0]], theirs.tensors[other.outputs[0]]
        assert a.quantization is not None
        assert b.quantization is not None
        assert np.abs(a.quantization.scale / b.quantization.scale - 1).max() <= ULPS, one.name
        assert np.array_equal(a.quantization.zero_point, b.quantization.zero_point)
        w, v = weight(ours, one), weight(theirs, other)
        assert (w is None) == (v is None)
        if w is not None and v is not None:
            assert w.quantization is not None
            assert v.quantization is not None
            assert np.abs(w.quantization.scale / v.quantization.scale - 1).max() <= ULPS
            assert np.abs(w.array.astype(int) - v.array).max() <= 1, "one step at most"
    with np.load(DIGITS / "test.npz") as file:
        x, labels = file["input"].astype(np.float32) / 16, file["labels"]
    right = accuracy(probabilities(tmp_path / "ours.tflite", x), labels)
    theirs_right = accuracy(probabilities(theirs_path, x.transpose(0, 2, 3, 1)), labels)
    assert right >= theirs_right - 1 / len(labels)


@pytest.mark.models
@pytest.mark.slow
def test_mobilenet_is_more_accurate_than_theirs(models_dir: Path, tmp_path: Path) -> None:
    model = models_dir / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx"
    (tmp_path / "qcompile.toml").write_text(imagenet.CONFIG)
    paths = imagenet.calibration(models_dir)
    qcompile.build(
        model, target="tflite-x86", effort="fast", latency=False,
        data=imagenet.link(paths, tmp_path / "calibration"),
        eval_data=imagenet.link(imagenet.evaluation(models_dir)[:1], tmp_path / "one"),
        config=tmp_path / "qcompile.toml", out=tmp_path / "ours.tflite",
    )  # fmt: skip
    calibration = imagenet.load(paths).transpose(0, 2, 3, 1)
    theirs = converted(model.with_suffix(".keras"), calibration, tmp_path)
    judged = imagenet.evaluation(models_dir)
    x, labels = imagenet.load(judged), imagenet.labels(judged)
    ours = accuracy(probabilities(tmp_path / "ours.tflite", x), labels)
    assert ours >= accuracy(probabilities(theirs, x.transpose(0, 2, 3, 1)), labels) + 0.01
