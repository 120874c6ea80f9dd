"""Same model, data and options: the same bytes, with 1 or 2 threads, elsewhere, from the plan."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.house.imports import ROOT
from tests.models import imagenet
from tests.models.building import Built

Builder = Callable[..., Built]


def fingerprints(built: Built) -> dict[str, str]:
    """Hash of every file that the build wrote, by what follows the artefact's name."""
    written = built.path.parent.glob(built.path.name + "*")
    return {
        path.name.removeprefix(built.path.name): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in written
    }


def same_bytes(builder: Builder, model: Path, data: Path, judged: Path, config: str = "") -> None:
    """Build five times in five folders and compare; the plan's build needs no data."""
    options = {"evaluation": judged, "config": config}
    first = builder(model, data, **options)
    wanted = fingerprints(first)
    assert set(wanted) == {"", ".report.json", ".plan.json", ".plan.npz"}
    assert fingerprints(builder(model, data, **options)) == wanted
    for threads in ("1", "2"):
        again = builder(model, data, options=("--threads", threads), **options)
        assert fingerprints(again) == wanted, f"{threads} threads"
    plan = first.path.with_name(first.path.name + ".plan.json")
    replayed = builder(model, None, options=("--plan", str(plan)), **options)
    assert fingerprints(replayed)[""] == wanted[""]


def test_digits(builder: Builder) -> None:
    folder = ROOT / "examples" / "digits"
    config = (folder / "qcompile.toml").read_text()
    same_bytes(
        builder, folder / "digits.onnx", folder / "calibration.npz", folder / "test.npz", config
    )


@pytest.mark.models
@pytest.mark.slow
def test_mobilenet(builder: Builder, models_dir: Path, tmp_path: Path) -> None:
    data = imagenet.link(imagenet.calibration(models_dir)[:32], tmp_path / "calibration")
    judged = imagenet.link(imagenet.evaluation(models_dir)[:16], tmp_path / "evaluation")
    model = models_dir / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx"
    same_bytes(builder, model, data, judged, imagenet.CONFIG)


@pytest.mark.models
@pytest.mark.slow
def test_resnet8(builder: Builder, models_dir: Path, tmp_path: Path) -> None:
    folder = models_dir / "mlperf_tiny"
    sets = {}
    for name in ("calibration", "test"):
        x = np.load(folder / f"cifar10_{name}.npz")["x"][:64].astype(np.float32)
        sets[name] = tmp_path / f"{name}.npz"
        np.savez(sets[name], input_1=x)
    model = folder / "resnet8_cifar10.onnx"
    same_bytes(builder, model, sets["calibration"], sets["test"])
