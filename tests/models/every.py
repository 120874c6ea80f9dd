"""Every float ONNX model of MANIFEST.md with its calibration and evaluation data, one list."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.models import imagenet, minilm
from tests.models.running import script, session

TINY = {
    "resnet8_cifar10": ("cifar10_calibration", "cifar10_test"),
    "kws_dscnn": ("kws_calibration", "kws_evaluation"),
    "ad_autoencoder": ("ad_calibration", "ad_evaluation"),
}
PREFIX = 128
"""Tokens before the one that a model with caches is run on."""

IMAGENET = """
[preprocess]
crop = 224
mean = 127.5
std = 127.5
[data]
label_pattern = '^(\\d+)_'
"""
FACE = """
[preprocess]
resize = [240, 320]
mean = 127
std = 128
"""


@dataclass(frozen=True)
class Subject:
    """A model, and what ``build`` is told of its data."""

    name: str
    model: Path
    options: Mapping[str, Any] = field(default_factory=dict)


def _listed(paths: list[Path], file: Path) -> Path:
    file.write_text("\n".join(map(str, paths)))
    return file


def _config(text: str, folder: Path) -> Path:
    file = folder / "qcompile.toml"
    file.write_text(text)
    return file


def mobilenet(models: Path, folder: Path) -> Subject:
    """MobileNet v1 0.75."""
    model = models / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx"
    options = {
        "data": _listed(imagenet.calibration(models), folder / "calibration.txt"),
        "eval_data": _listed(imagenet.evaluation(models), folder / "evaluation.txt"),
        "config": _config(IMAGENET, folder),
    }
    return Subject("mobilenet", model, options)


def tiny(name: str) -> Callable[[Path, Path], Subject]:
    """One of MLPerf Tiny."""

    def make(models: Path, folder: Path) -> Subject:
        base = models / "mlperf_tiny"
        calibration, evaluation = (np.load(base / f"{part}.npz") for part in TINY[name])
        labels = {"labels": evaluation["y"]} if "y" in evaluation else {}
        data, judged = folder / "calibration.npz", folder / "evaluation.npz"
        np.savez(data, input_1=calibration["x"].astype(np.float32))
        np.savez(judged, input_1=evaluation["x"].astype(np.float32), **labels)
        return Subject(name, base / f"{name}.onnx", {"data": data, "eval_data": judged})

    return make


def person(models: Path, folder: Path) -> Subject:
    """MLPerf Tiny's person detector."""
    base = models / "mlperf_tiny"
    pictures = script(base / "vww_data.py")
    x, labels = pictures.labelled()
    data, judged = folder / "calibration.npz", folder / "evaluation.npz"
    np.savez(data, input_1=pictures.calibration())
    np.savez(judged, input_1=x, labels=labels)
    return Subject("vww_96", base / "vww_96.onnx", {"data": data, "eval_data": judged})


def face(name: str) -> Callable[[Path, Path], Subject]:
    """One of the two face detectors."""

    def make(models: Path, folder: Path) -> Subject:
        base = models / "face"
        pictures = sorted((base / "pictures").glob("*.jpg"), key=lambda path: int(path.stem))
        even = [path for path in pictures if int(path.stem) % 2 == 0]
        odd = [path for path in pictures if int(path.stem) % 2]
        options = {
            "data": _listed(even, folder / "calibration.txt"),
            "eval_data": _listed(odd, folder / "evaluation.txt"),
            "config": _config(FACE, folder),
        }
        return Subject(name, base / f"{name}.onnx", options)

    return make


def encoder(models: Path, folder: Path) -> Subject:
    """all-MiniLM-L6-v2, its activations quantized as it runs."""
    base = minilm.fetch(models)
    options = {
        "data": base / "calibration",
        "eval_data": base / "evaluation",
        "scheme": "w8a8-dynamic",
    }
    return Subject("minilm", base / "model.onnx", options)


def language(name: str) -> Callable[[Path, Path], Subject]:
    """The small Llama, or its outlier variant."""

    def make(models: Path, folder: Path) -> Subject:
        base = models / "llm"
        data, judged = folder / "calibration.npz", folder / "evaluation.npz"
        calibration = np.load(base / "calibration.npz")["input_ids"][:32]
        evaluation = np.load(base / "evaluation.npz")["input_ids"][:16, :-1]
        np.savez(data, input_ids=calibration.astype(np.int64))
        np.savez(judged, input_ids=evaluation.astype(np.int64))
        return Subject(name, base / f"{name}.onnx", {"data": data, "eval_data": judged})

    return make


def step(name: str) -> Callable[[Path, Path], Subject]:
    """One of the two with caches: the token after ``PREFIX`` others, with what these left."""

    def make(models: Path, folder: Path) -> Subject:
        model = models / "llm" / f"{name}.onnx"
        loaded = session(model)
        caches = [i.name for i in loaded.get_inputs() if i.name.startswith("past")]
        empty = {cache: np.zeros((1, 2, 0, 64), np.float32) for cache in caches}
        rows = np.load(models / "llm" / "calibration.npz")["input_ids"][:24].astype(np.int64)
        for number, row in enumerate(rows):
            before = {"input_ids": row[None, :PREFIX], **_places(np.arange(PREFIX)), **empty}
            _, *left = loaded.run(None, before)
            one = {"input_ids": row[None, PREFIX : PREFIX + 1], **_places(np.array([PREFIX]))}
            one |= dict(zip(caches, left, strict=True))
            np.savez(folder / f"{number:03}.npz", **one)
        return Subject(name, model, {"data": folder})

    return make


def _places(positions: np.ndarray) -> dict[str, np.ndarray]:
    mask = np.ones((1, int(positions[-1]) + 1), np.int64)
    return {"attention_mask": mask, "position_ids": positions[None].astype(np.int64)}


def voice(models: Path, folder: Path) -> Subject:
    """Silero VAD."""
    silero = script(models / "silero_vad" / "evaluate.py")
    for split, count in (("calibration", 256), ("evaluation", 64)):
        (folder / split).mkdir()
        for number, feeds in enumerate(silero.feeds(split, count)):
            np.savez(folder / split / f"{number:03}.npz", **feeds)
    options = {"data": folder / "calibration", "eval_data": folder / "evaluation"}
    return Subject("silero_vad", Path(silero.FLOAT), options)


EVERY: Mapping[str, Callable[[Path, Path], Subject]] = {
    "mobilenet": mobilenet,
    "resnet8_cifar10": tiny("resnet8_cifar10"),
    "vww_96": person,
    "kws_dscnn": tiny("kws_dscnn"),
    "ad_autoencoder": tiny("ad_autoencoder"),
    "version-RFB-320": face("version-RFB-320"),
    "version-RFB-320_simplified": face("version-RFB-320_simplified"),
    "minilm": encoder,
    "lm": language("lm"),
    "lm_outlier": language("lm_outlier"),
    "lm_with_past": step("lm_with_past"),
    "lm_outlier_with_past": step("lm_outlier_with_past"),
    "silero_vad": voice,
}
"""Name -> makes the data in an empty folder and says what to build."""
