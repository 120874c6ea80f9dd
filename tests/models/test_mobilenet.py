"""MobileNet v1 0.75 on 625 ImageNet pictures: accuracy, size and coverage."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.figures import Figures
from tests.models import imagenet
from tests.models.building import EFFORTS, Built
from tests.models.running import (
    STEMS,
    accuracy,
    agreement,
    float_compute,
    optimized_ops,
    run,
    session,
    sqnr,
)

pytestmark = [pytest.mark.models, pytest.mark.slow]

NAME = "mobilenet_v1_0.75_224.onnx"
INTEGER = ("QLinearConv", "QLinearSoftmax")
MOST_LOST = {"fast": 0.010, "balanced": 0.005}
"""Effort -> the largest loss of top-1."""
LEAST_AGREEMENT = {"fast": 0.95, "balanced": 0.97}


@dataclass(frozen=True)
class Float:
    """The float model and what it says on the evaluation pictures."""

    model: Path
    x: np.ndarray
    labels: np.ndarray
    p: np.ndarray


@dataclass(frozen=True)
class Case(Float):
    """The same with the artefact of an effort, and what that says."""

    effort: str
    built: Built
    got: np.ndarray


@pytest.fixture(scope="module")
def reference(models_dir: Path) -> Float:
    model = models_dir / "mobilenet_v1" / NAME
    paths = imagenet.evaluation(models_dir)
    x = imagenet.load(paths)
    return Float(model, x, imagenet.labels(paths), run(session(model), x))


@pytest.fixture(scope="module", params=EFFORTS)
def case(
    request: pytest.FixtureRequest,
    reference: Float,
    models_dir: Path,
    builder: Callable[..., Built],
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    folder = tmp_path_factory.mktemp("imagenet")
    calibration = imagenet.link(imagenet.calibration(models_dir), folder / "calibration")
    evaluation = imagenet.link(imagenet.evaluation(models_dir), folder / "evaluation")
    effort = request.param
    built = builder(
        reference.model, calibration, evaluation=evaluation, config=imagenet.CONFIG, effort=effort
    )
    got = run(session(built.path), reference.x)
    return Case(**vars(reference), effort=effort, built=built, got=got)


def test_float_figure_is_the_manifests(reference: Float) -> None:
    assert accuracy(reference.p, reference.labels) == pytest.approx(0.845, abs=0.0005)


def test_accuracy(case: Case, figures: Figures) -> None:
    before, after = accuracy(case.p, case.labels), accuracy(case.got, case.labels)
    agreed = agreement(case.p, case.got)
    quality = sqnr(case.p, case.got)
    most, least = MOST_LOST[case.effort], LEAST_AGREEMENT[case.effort]
    figures.add(NAME, f"{case.effort}, top-1 of 625", before, after, f"loss <= {most}")
    figures.add(NAME, f"{case.effort}, agreement", 1.0, agreed, f">= {least}")
    figures.add(NAME, f"{case.effort}, SQNR of the probabilities, dB", "inf", quality, ">= 22")
    assert before - after <= most
    assert agreed >= least
    assert quality >= 22


def test_the_report_says_the_same(case: Case) -> None:
    """The report's accuracy, from picture files and a label pattern, is the one found here."""
    said = case.built.report["accuracy"]
    (top1,) = (metric for metric in said["metrics"] if metric["metric"] == "top-1")
    assert said["samples"] == len(case.labels)
    assert top1["float_value"] == pytest.approx(accuracy(case.p, case.labels), abs=1e-5)
    # a picture may fall to the other side where the report judges with exact arithmetic
    assert top1["artefact_value"] == pytest.approx(accuracy(case.got, case.labels), abs=2e-3)


def test_all_integer(case: Case, tmp_path: Path) -> None:
    ops = optimized_ops(case.built.path, tmp_path)
    assert float_compute(ops) in STEMS[case.effort]
    floats, scores = sum(float_compute(ops).values()), ops["QGemm"]
    assert ops["QLinearConv"] + scores == 28 - floats  # of 27 and the last 1x1, the classifier
    assert scores == ops["Softmax"] == (case.effort == "balanced")  # its sums go there as floats
    assert ops["QLinearSoftmax"] == 1 - scores
    assert ops["QLinearGlobalAveragePool"] + ops["QLinearAveragePool"] == 1
    assert ops["GlobalAveragePool"] == ops["AveragePool"] == 0


def test_size(case: Case, figures: Figures) -> None:
    before, after = case.model.stat().st_size, case.built.path.stat().st_size
    figures.add(NAME, "bytes", before, f"{after} ({after / before:.1%})", "<= 27 %")
    assert after <= 0.27 * before


def test_one_scale_a_weight(
    reference: Float,
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    tmp_path: Path,
) -> None:
    """Where tools that neither equalize nor correct biases lose 75 points."""
    calibration = imagenet.link(imagenet.calibration(models_dir), tmp_path / "calibration")
    built = builder(
        reference.model,
        calibration,
        config=imagenet.CONFIG,
        target="ort-x86-vnni",
        effort="balanced",
        options=("--granularity", "tensor"),
    )
    got = run(session(built.path, exact=True), reference.x)
    before, after = (accuracy(p, reference.labels) for p in (reference.p, got))
    figures.add(NAME, "balanced, per tensor, top-1 of 625", before, after, "loss <= 0.03")
    assert before - after <= 0.03
