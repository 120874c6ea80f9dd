"""Both face files (opset 9; boxes decoded in one, raw in the other): the boxes are kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from tests.figures import Figures
from tests.models import faces
from tests.models.building import EFFORTS, Built
from tests.models.imagenet import link
from tests.models.running import STEMS, float_compute, optimized_ops, session

pytestmark = [pytest.mark.models, pytest.mark.slow]

DECODED, RAW = "version-RFB-320.onnx", "version-RFB-320_simplified.onnx"
CONFIG = """
[preprocess]
resize = [240, 320]
mean = 127
std = 128
"""


def pictures(models_dir: Path, odd: bool) -> list[Path]:
    """Calibration pictures have even numbers, evaluation pictures odd ones."""
    found = (models_dir / "face" / "pictures").glob("*.jpg")
    return sorted((p for p in found if int(p.stem) % 2 == odd), key=lambda p: int(p.stem))


def boxes_of(
    model: ort.InferenceSession, picture: Path, raw: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Scores N x 2 and corners N x 4 of all boxes of one picture, as shares of its sides."""
    scores, boxes = model.run(["scores", "boxes"], {"input": faces.load(picture)})
    return scores[0], faces.decode(boxes[0]) if raw else boxes[0]


def detect(model: ort.InferenceSession, picture: Path, raw: bool) -> np.ndarray:
    """Faces of one picture: N x 4 corners as shares of its sides."""
    return faces.faces(*boxes_of(model, picture, raw))


def test_our_decoding_is_the_models_own(models_dir: Path) -> None:
    """The same weights with and without decoding in the graph give the same corners."""
    decoded, raw = (session(models_dir / "face" / name) for name in (DECODED, RAW))
    for picture in pictures(models_dir, odd=True)[:3]:
        feeds = {"input": faces.load(picture)}
        wanted = decoded.run(["boxes"], feeds)[0][0]
        got = faces.decode(raw.run(["boxes"], feeds)[0][0])
        assert np.abs(wanted - got).max() < 1e-5


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("name", [DECODED, RAW])
def test_faces_are_kept(
    name: str,
    effort: str,
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    tmp_path: Path,
) -> None:
    raw = name == RAW
    calibration = link(pictures(models_dir, odd=False), tmp_path / "calibration")
    judged = link(pictures(models_dir, odd=True), tmp_path / "test")
    built = builder(
        models_dir / "face" / name, calibration, evaluation=judged, config=CONFIG, effort=effort
    )
    ops = optimized_ops(built.path, tmp_path)
    assert float_compute(ops) in STEMS[effort]

    reference, quantized = session(models_dir / "face" / name), session(built.path)
    found: dict[str, Any] = {"iou": [], "wanted": 0, "got": 0, "lost": 0}
    for picture in pictures(models_dir, odd=True):
        wanted, after = detect(reference, picture, raw), boxes_of(quantized, picture, raw)
        got = faces.faces(*after)
        found["lost"] += faces.lost(wanted, *after)
        found["iou"] += faces.match(wanted, got)
        found["wanted"] += len(wanted)
        found["got"] += len(got)
    kept = [overlap for overlap in found["iou"] if overlap]
    recall, extra = len(kept) / found["wanted"], (found["got"] - len(kept)) / found["wanted"]
    figures.add(name, f"{effort}, boxes", found["wanted"], found["got"])
    figures.add(name, f"{effort}, boxes kept (IoU >= 0.5)", 1.0, recall, ">= 0.97")
    figures.add(name, f"{effort}, faces lost", 0, found["lost"], "0")
    figures.add(name, f"{effort}, boxes added", 0.0, extra, "<= 0.03")
    figures.add(name, f"{effort}, mean IoU of kept boxes", 1.0, float(np.mean(kept)), ">= 0.95")
    assert found["lost"] == 0
    assert recall >= 0.97
    assert extra <= 0.03
    assert np.mean(kept) >= 0.95
