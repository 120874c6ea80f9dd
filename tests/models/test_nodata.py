"""``-d none`` on real models: what is chosen, and how close it comes to what samples give."""

from pathlib import Path

import pytest

from qcompile.compiler.api import build
from qcompile.compiler.report.accuracy import Accuracy
from qcompile.compiler.report.model import BuildReport
from tests.models import imagenet

pytestmark = [pytest.mark.models, pytest.mark.slow]

FACE = "[preprocess]\nresize = [240, 320]\nmean = 127\nstd = 128\n"


def built(
    model: Path, judged: list[Path] | Path, folder: Path, config: str, target: str = "ort-x86-vnni"
) -> tuple[BuildReport, Accuracy]:
    (folder / "qcompile.toml").write_text(config)
    given = [str(path) for path in judged] if isinstance(judged, list) else judged
    report = build(
        model, target=target, data="none", eval_data=given,
        config=folder / "qcompile.toml", latency=False,
    ).report  # fmt: skip
    assert report.accuracy is not None
    return report, report.accuracy


def test_mobilenet_by_its_clips(models_dir: Path, tmp_path: Path) -> None:
    model = models_dir / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx"
    pictures = imagenet.evaluation(models_dir)
    report, accuracy = built(model, pictures, tmp_path, imagenet.CONFIG)
    assert (report.scheme, report.ranges) == ("w8a8", "known")
    assert report.coverage.macs_share > 0.99
    assert accuracy.top1 is not None
    assert accuracy.top1.drop_points <= 1.0  # -0.16
    assert accuracy.agreement is not None
    assert accuracy.agreement.value >= 0.94  # 0.960


def test_a_face_detector_by_its_normalization(models_dir: Path, tmp_path: Path) -> None:
    model = models_dir / "face" / "version-RFB-320.onnx"
    pictures = sorted((models_dir / "face" / "pictures").glob("*.jpg"))
    odd = [path for path in pictures if int(path.stem) % 2]
    report, accuracy = built(model, odd, tmp_path, FACE)
    assert report.scheme == "w8a8"
    assert report.coverage.macs_share > 0.98
    scores, boxes = accuracy.outputs
    assert scores.sqnr_db is not None
    assert boxes.sqnr_db is not None
    assert scores.sqnr_db > 35  # 39.3
    assert boxes.sqnr_db > 45  # 49.1


@pytest.mark.parametrize(
    ("name", "data", "config"),
    [
        ("resnet8_cifar10", "cifar10_test", "[data.ranges]\ninput_1 = [0, 255]\n"),
        ("ad_autoencoder", "ad_evaluation", ""),
    ],
)
def test_without_normalization_scales_are_found_as_the_model_runs(
    models_dir: Path, tmp_path: Path, name: str, data: str, config: str
) -> None:
    folder = models_dir / "mlperf_tiny"
    report, accuracy = built(folder / f"{name}.onnx", folder / f"{data}.npz", tmp_path, config)
    assert report.scheme == "w8a8-dynamic"
    assert accuracy.worst_sqnr_db is not None
    assert accuracy.worst_sqnr_db > 30


@pytest.mark.litert
def test_convolutions_find_their_scales_as_they_run_where_there_are_kernels(
    models_dir: Path, tmp_path: Path
) -> None:
    folder = models_dir / "mlperf_tiny"
    model, data = folder / "resnet8_cifar10.onnx", folder / "cifar10_test.npz"
    report, _ = built(model, data, tmp_path, "", "tflite-x86")
    assert report.scheme == "w8a8-dynamic"
    assert report.coverage.macs_share > 0.99
    assert report.size_ratio < 0.3
