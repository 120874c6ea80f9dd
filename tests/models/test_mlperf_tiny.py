"""The four MLPerf Tiny networks on the data of MANIFEST.md, next to the peer's int8 files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.figures import Figures
from tests.models.building import EFFORTS, TARGET, Built
from tests.models.running import (
    STEMS,
    accuracy,
    agreement,
    float_compute,
    log_p,
    optimized_ops,
    run,
    script,
    session,
    sqnr,
)

pytestmark = [pytest.mark.models, pytest.mark.slow]

MOST_LOST = {"fast": 0.010, "balanced": 0.003}
"""Effort -> the largest loss of accuracy against float."""
MOST_ERROR = {"fast": 1.02, "balanced": 1.01}
"""Effort -> the largest error of the autoencoder, as a multiple of float's."""


@pytest.fixture(scope="module")
def folder(models_dir: Path) -> Path:
    return models_dir / "mlperf_tiny"


def save(path: Path, x: np.ndarray, labels: np.ndarray | None = None) -> Path:
    """One .npz of the batch ``x`` under the name these models give their input."""
    np.savez(path, input_1=x, **({} if labels is None else {"labels": labels}))
    return path


@pytest.mark.parametrize(
    ("target", "effort", "most"),
    [
        (TARGET, "fast", 0.010),
        (TARGET, "balanced", 0.003),
        ("ort-x86-vnni", "balanced", 0.003),
    ],
)
def test_resnet8(
    target: str,
    effort: str,
    most: float,
    folder: Path,
    builder: Callable[..., Built],
    figures: Figures,
    tmp_path: Path,
) -> None:
    calibration, test = (np.load(folder / f"cifar10_{s}.npz") for s in ("calibration", "test"))
    model, x = folder / "resnet8_cifar10.onnx", test["x"].astype(np.float32)
    before = run(session(model), x)
    assert accuracy(before, test["y"]) == pytest.approx(0.760, abs=0.001)

    data = save(tmp_path / "calibration.npz", calibration["x"].astype(np.float32))
    judged = save(tmp_path / "test.npz", x, test["y"])
    built = builder(model, data, evaluation=judged, effort=effort, target=target)
    after = run(session(built.path, exact=True), x)
    assert float_compute(optimized_ops(built.path, tmp_path)) == {}
    loss = accuracy(before, test["y"]) - accuracy(after, test["y"])
    figures.add(
        model.name,
        f"{target} {effort}, top-1 of 1300",
        accuracy(before, test["y"]),
        accuracy(after, test["y"]),
        f"loss <= {most}",
    )
    figures.add(
        model.name, f"{target} {effort}, agreement", 1.0, agreement(before, after), ">= 0.95"
    )
    quality = sqnr(log_p(before), log_p(after))
    figures.add(model.name, f"{target} {effort}, SQNR of log p, dB", "inf", quality)
    assert loss <= most
    assert agreement(before, after) >= 0.95


@pytest.mark.parametrize("effort", EFFORTS)
def test_person(
    effort: str, folder: Path, builder: Callable[..., Built], figures: Figures, tmp_path: Path
) -> None:
    pictures = script(folder / "vww_data.py")
    model, x = folder / "vww_96.onnx", pictures.evaluation()
    labelled_x, labels = pictures.labelled()
    before, before_labelled = run(session(model), x), run(session(model), labelled_x)
    assert accuracy(before_labelled, labels) == pytest.approx(0.901, abs=0.001)

    judged = save(tmp_path / "test.npz", labelled_x, labels)
    data = save(tmp_path / "calibration.npz", pictures.calibration())
    built = builder(model, data, evaluation=judged, effort=effort)
    after, after_labelled = run(session(built.path), x), run(session(built.path), labelled_x)
    assert float_compute(optimized_ops(built.path, tmp_path)) in STEMS[effort]
    scores = accuracy(before_labelled, labels), accuracy(after_labelled, labels)
    most = MOST_LOST[effort]
    figures.add(model.name, f"{effort}, labelled accuracy", *scores, f"loss <= {most}")
    agreed = agreement(before, after)
    figures.add(model.name, f"{effort}, agreement of 625", 1.0, agreed, ">= 0.985")
    quality = sqnr(*(log_p(p)[:, 1] - log_p(p)[:, 0] for p in (before, after)))
    figures.add(model.name, f"{effort}, SQNR of the logit, dB", "inf", quality)
    assert scores[0] - scores[1] <= most
    assert agreed >= 0.985  # the peer's: 0.989


@pytest.mark.parametrize("effort", EFFORTS)
def test_keywords(
    effort: str, folder: Path, builder: Callable[..., Built], figures: Figures, tmp_path: Path
) -> None:
    model = folder / "kws_dscnn.onnx"
    calibration = np.load(folder / "kws_calibration.npz")["x"]
    judged = np.load(folder / "kws_evaluation.npz")
    built = builder(
        model,
        save(tmp_path / "calibration.npz", calibration),
        evaluation=save(tmp_path / "test.npz", judged["x"], judged["y"]),
        effort=effort,
    )
    assert float_compute(optimized_ops(built.path, tmp_path)) in STEMS[effort]
    lost = total = 0
    for name, manifest in (("evaluation", 0.887), ("synthetic", 0.795)):
        data = np.load(folder / f"kws_{name}.npz")
        before, after = (run(session(m), data["x"]) for m in (model, built.path))
        scores = accuracy(before, data["y"]), accuracy(after, data["y"])
        assert scores[0] == pytest.approx(manifest, abs=0.001)
        what = f"{effort}, {name}"
        figures.add(model.name, f"{what}, accuracy", *scores)
        figures.add(model.name, f"{what}, agreement", 1.0, agreement(before, after), ">= 0.95")
        quality = sqnr(log_p(before), log_p(after))
        figures.add(model.name, f"{what}, SQNR of log p, dB", "inf", quality)
        assert scores[0] - scores[1] < 0.0125  # two words of the 200 synthetic ones
        assert agreement(before, after) >= 0.95  # the peer's: 0.987 on the first
        lost += round((scores[0] - scores[1]) * len(data["y"]))
        total += len(data["y"])
    most = MOST_LOST[effort]
    figures.add(model.name, f"{effort}, words lost of {total}", 0, lost, f"<= {most * total:.0f}")
    assert lost <= most * total


@pytest.mark.parametrize("effort", EFFORTS)
def test_autoencoder(
    effort: str, folder: Path, builder: Callable[..., Built], figures: Figures, tmp_path: Path
) -> None:
    model = folder / "ad_autoencoder.onnx"
    calibration = np.load(folder / "ad_calibration.npz")["x"]
    data = np.load(folder / "ad_evaluation.npz")
    x, car = data["x"], data["source"] == 0
    built = builder(
        model,
        save(tmp_path / "calibration.npz", calibration),
        evaluation=save(tmp_path / "test.npz", x),
        effort=effort,
    )
    assert float_compute(optimized_ops(built.path, tmp_path)) == {}
    before, after = run(session(model), x), run(session(built.path), x)
    errors = [np.mean((x - y) ** 2, 1) for y in (before, after)]
    assert errors[0][car].mean() == pytest.approx(9.71, abs=0.01)
    ratios = [float(errors[1][part].mean() / errors[0][part].mean()) for part in (car, ~car)]
    gate = f"<= {MOST_ERROR[effort]}"
    figures.add(model.name, f"{effort}, error ratio, toy car", 1.0, ratios[0], gate)
    figures.add(model.name, f"{effort}, error ratio, other sounds", 1.0, ratios[1], gate)
    figures.add(model.name, f"{effort}, SQNR, dB", "inf", sqnr(before, after), ">= 36")
    assert errors[1][car].max() < errors[1][~car].min()  # still tells the machine's sound apart
    assert max(ratios) <= MOST_ERROR[effort]  # the peer's: 1.059 and 1.032
    assert sqnr(before, after) >= 36  # the peer's: 28.8
