"""``--never-slower`` on every model: what it chooses is integer where that pays, and replays.

Times are printed, since a shared machine proves nothing with them; what must hold on any machine is
asserted. The figures are those of ``python -m tests.benchmarks never_slower``.
"""

from pathlib import Path

import pytest

from qcompile.compiler.api import build
from qcompile.targets.catalog import load_target
from qcompile.targets.host import runs_here
from tests.figures import Figures
from tests.models.every import EVERY

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.alone]

TARGET = "ort-x86-vnni"
QUICK = ("resnet8_cifar10", "vww_96", "ad_autoencoder", "mobilenet")
"""The others take minutes; the benchmark has them all."""
LEAST_INTEGER = {"resnet8_cifar10": 0.99, "mobilenet": 0.6}
"""Share of the multiply-adds that is integer on a machine with VNNI, whatever disturbs the clock:
there the integer kernels of dense convolutions take less than half the time."""


@pytest.mark.parametrize("name", QUICK)
def test_never_slower(name: str, models_dir: Path, figures: Figures, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    subject = EVERY[name](models_dir, folder)
    out = tmp_path / "out.onnx"
    timed = runs_here(load_target(TARGET))  # else the table of costs decides
    given = {key: value for key, value in subject.options.items() if key != "eval_data"}
    options = {"target": TARGET, "effort": "fast", "latency": timed, **given}
    result = build(subject.model, out=out, never_slower=True, time_budget="60s", **options)
    report = result.report
    share = report.coverage.macs_share
    figures.add(name, "never slower, integer multiply-adds", 0.0, share)
    if report.measured.latency is not None:
        (ratio,) = report.measured.latency.ratios
        figures.add(name, f"never slower, time ({ratio.verdict})", 1.0, ratio.value, "<= 1.0")
    assert report.regions
    assert all(row.measured is timed for row in report.regions)
    chosen = {row.node for row in report.regions if row.choice == "float"}
    floats = {node.name for node in report.coverage.float_nodes}
    assert chosen <= floats, "what the plan leaves float the runtime runs as float"
    assert share >= LEAST_INTEGER.get(name, 0.0)

    again = build(
        subject.model,
        plan=f"{out}.plan.json",
        latency=False,
        config=subject.options.get("config"),
    )
    assert again.artefact == out.read_bytes()
    assert again.report.regions == report.regions


@pytest.mark.parametrize(
    ("name", "target", "fewest", "most"),
    [
        ("ad_autoencoder", "ort-arm64", 0.0, 0.5),
        pytest.param("ad_autoencoder", "tflite-arm64", 1.0, 1.0, marks=pytest.mark.litert),
        ("vww_96", "ort-arm64", 0.9, 1.0),
        pytest.param("vww_96", "tflite-arm64", 0.99, 1.0, marks=pytest.mark.litert),
        pytest.param("vww_96", "tflite-x86", 0.3, 0.95, marks=pytest.mark.litert),
    ],
)
def test_by_the_table_alone(
    name: str,
    target: str,
    fewest: float,
    most: float,
    models_dir: Path,
    figures: Figures,
    tmp_path: Path,
) -> None:
    """ONNX Runtime's fully connected layers of one row cost more as integers on ARM64, LiteRT's do
    not; XNNPACK's depthwise layers are slower as integers on x86."""
    subject = EVERY[name](models_dir, tmp_path)
    given = {key: value for key, value in subject.options.items() if key != "eval_data"}
    options = {"target": target, "effort": "fast", "latency": False, **given}
    report = build(subject.model, never_slower=True, **options).report
    share = report.coverage.macs_share
    figures.add(name, f"never slower by the table of {target}, integer", 0.0, share)
    assert fewest <= share <= most
    unit = "instructions" if target.endswith("arm64") else "ms"
    assert {row.unit for row in report.regions} == {unit}
    notes = [note.message for note in report.notes if "float so that" in note.message]
    assert [("first guess by the instructions (emulated)" in text) for text in notes] == [
        unit == "instructions"
    ]
