"""Remarks on calibration sets: none on real data for real models, one for each planted fault."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.data.lint import Watched
from qcompile.compiler.data.open import open_data
from qcompile.compiler.data.options import DataOptions
from qcompile.compiler.data.preprocess import Preprocess
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.measure import data_notes, network_notes
from qcompile.compiler.options import Scheme
from qcompile.compiler.pipeline import prepare
from qcompile.targets.onnxruntime.executor import OrtExecutor

pytestmark = pytest.mark.models

PICTURES = {
    "mobilenet_v1/mobilenet_v1_0.75_224.onnx": (
        "imagenet", Preprocess(crop=224, mean=127.5, std=127.5)
    ),
    "face/version-RFB-320.onnx": (
        "face/pictures", Preprocess(resize=(240, 320), mean=127.0, std=128.0)
    ),
    "mlperf_tiny/vww_96.onnx": ("imagenet", Preprocess(resize=(96, 96), scale=1 / 255)),
}  # fmt: skip
ARRAYS = {
    "mlperf_tiny/resnet8_cifar10.onnx": "cifar10_calibration.npz",
    "mlperf_tiny/kws_dscnn.onnx": "kws_calibration.npz",
    "mlperf_tiny/ad_autoencoder.onnx": "ad_calibration.npz",
}


def remarks(
    models: Path,
    model: str,
    data: object,
    preprocess: Preprocess | None = None,
    limit: int | None = 125,
) -> list[str]:
    imported = load_onnx(models / model)
    options = DataOptions(limit=limit)
    dataset = open_data(data, imported.signature, preprocess, options=options)  # type: ignore[arg-type]
    watched = Watched(dataset)
    for index in range(len(watched)):
        watched[index]
    graph = prepare(imported, Scheme())
    found = network_notes(watched, graph, OrtExecutor(), is_random=False, threads=2)
    found += data_notes(watched, graph, is_random=False)
    return [note.message for note in found]


def array(models: Path, model: str) -> np.ndarray:
    with np.load(models / "mlperf_tiny" / ARRAYS[model]) as file:
        return np.asarray(file["x"], np.float32)


@pytest.mark.parametrize("model", PICTURES)
def test_silence_on_real_pictures(models_dir: Path, model: str) -> None:
    folder, preprocess = PICTURES[model]
    assert remarks(models_dir, model, models_dir / folder, preprocess) == []


@pytest.mark.parametrize("model", ARRAYS)
def test_silence_on_real_arrays(models_dir: Path, model: str) -> None:
    assert remarks(models_dir, model, {"x": array(models_dir, model)}) == []


def odd(x: np.ndarray) -> np.ndarray:
    """1 for every second sample, shaped to broadcast."""
    return np.arange(len(x))[:, None, None, None] % 2


RESNET = "mlperf_tiny/resnet8_cifar10.onnx"
FAULTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "0..1 for 0..255": (lambda x: x / 255, "look too small"),
    "black": (lambda x: np.where(np.arange(len(x))[:, None, None, None] % 3, 0, x), "hold one"),
    "copies": (lambda x: x[np.arange(len(x)) // 2], "exact copies"),
    "near copies": (lambda x: x[np.arange(len(x)) // 2] + odd(x), "almost copies"),
    "reshaped": (lambda x: x.transpose(0, 3, 1, 2).reshape(x.shape), "reshaped"),
    "two scalings": (lambda x: np.where(np.arange(len(x))[:, None, None, None] % 9, x, x / 255),
                     "scaled unlike the rest"),
    "four": (lambda x: x[:4], "samples are few"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults(models_dir: Path, fault: str) -> None:
    plant, wanted = FAULTS[fault]
    planted = plant(array(models_dir, RESNET)).astype(np.float32)
    found = remarks(models_dir, RESNET, {"x": planted})
    assert any(wanted in message for message in found), found


def test_raw_pictures(models_dir: Path) -> None:
    model = "mobilenet_v1/mobilenet_v1_0.75_224.onnx"
    found = remarks(models_dir, model, models_dir / "imagenet", Preprocess(crop=224), 32)
    assert any("look too large" in message for message in found), found
