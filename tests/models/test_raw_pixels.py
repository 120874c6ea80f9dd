"""MobileNet fed with raw pixels: ``--io uint8`` takes scale, mean and std into its first layer."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import qcompile
from qcompile.core.ends import FloatEnds
from qcompile.targets.backends import backend_of
from tests.figures import Figures
from tests.models import imagenet
from tests.models.running import accuracy, agreement

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.litert]

NAME = "mobilenet_v1_0.75_224.onnx"
TARGETS = {"ort-x86-vnni": "onnxruntime", "tflite-x86": "tflite"}


@pytest.fixture(scope="module")
def built(
    models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], bytes]:
    """Type of the ends and target -> artefact."""
    folder = tmp_path_factory.mktemp("pixels")
    config = folder / "qcompile.toml"
    config.write_text(imagenet.CONFIG)
    calibration = imagenet.link(imagenet.calibration(models_dir), folder / "calibration")
    found = {}
    for ends in ("float", "uint8"):
        made = qcompile.build_for(
            models_dir / "mobilenet_v1" / NAME,
            list(TARGETS),
            data=calibration,
            ends=ends,
            effort="fast",
            config=config,
            latency=False,
        )
        found.update({(ends, target): result.artefact for target, result in made.items()})
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_an_app_feeds_what_the_camera_gives(
    target: str,
    built: dict[tuple[str, str], bytes],
    models_dir: Path,
    figures: Figures,
) -> None:
    backend, paths = backend_of(TARGETS[target]), imagenet.evaluation(models_dir)
    raw, floats = built["uint8", target], built["float", target]
    (end,) = backend.facts(raw).inputs
    assert end.dtype == "uint8"
    opened, plain = backend.open(raw, exact=True), backend.open(floats, exact=True)
    as_floats = FloatEnds(plain, backend.facts(floats).ends)
    (name,) = as_floats.input_names
    is_first = end.shape is not None and end.shape[1] == 3
    p, q = [], []
    for path in paths:  # the crop alone is left to the app
        pixels = np.asarray(Image.open(path).convert("RGB"))[16:240, 16:240]
        fed = pixels.transpose(2, 0, 1) if is_first else pixels
        q.append(opened.run({end.name: np.ascontiguousarray(fed[None])})[0][0])
        x = (pixels.astype(np.float32) / np.float32(127.5) - 1).transpose(2, 0, 1)
        p.append(as_floats.run({name: x[None]})[0][0])
    before, after = np.stack(p), np.stack(q)
    labels = imagenet.labels(paths)
    scores, agreed = (accuracy(before, labels), accuracy(after, labels)), agreement(before, after)
    figures.add(NAME, f"{target}, top-1 of 625, float and raw uint8 ends", *scores, "within 0.006")
    figures.add(NAME, f"{target}, float and raw uint8 ends agree", 1.0, agreed, ">= 0.97")
    assert abs(scores[0] - scores[1]) <= 0.006
    assert agreed >= 0.97
