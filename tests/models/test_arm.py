"""MobileNet and the four MLPerf Tiny networks on emulated ARM64: results beside x86, and cost."""

from pathlib import Path

import numpy as np
import pytest

import qcompile
from tests.figures import Figures
from tests.models import arm
from tests.models.test_mlperf_tiny import save

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.arm, pytest.mark.litert]

ADDS = "resnet8_cifar10"
"""The only one that adds activations: in floats, rounded once on ARM and twice on x86."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arm")


@pytest.fixture(scope="module")
def rows(models_dir: Path, folder: Path, figures: Figures) -> list[arm.Row]:
    found = arm.rows(models_dir, folder)
    for row in found:
        what = f"{row.kernels}, qemu:{row.cpu}"
        figures.add(row.model, f"{what}, LSB from x86", 0, row.largest, row.verdict)
        if row.integers:
            figures.add(row.model, f"{what}, instructions, int8 / float", 1.0, row.ratio)
    return found


def test_onnxruntime_gives_the_bits_of_exact_sums_here(rows: list[arm.Row]) -> None:
    ours = [row for row in rows if row.kernels.startswith("ORT")]
    assert len(ours) == len(arm.CPUS) * 5
    assert {row.model for row in ours if row.verdict != "bit-equal"} <= {ADDS}
    assert all(row.off + row.more <= 0.05 * row.values for row in ours)


def test_only_additions_part(rows: list[arm.Row], models_dir: Path, folder: Path) -> None:
    tiny = models_dir / "mlperf_tiny"
    x = np.float32(np.load(tiny / "cifar10_test.npz")["x"][162:324:81])
    report = qcompile.check(
        folder / ADDS / f"{ADDS}.ort-arm64.onnx",
        reference=tiny / f"{ADDS}.onnx",
        data=save(folder / "some.npz", x),
        devices=[f"qemu:{cpu}" for cpu in arm.CPUS[:2]],
        latency=False,
    )
    assert report.across is not None
    for found in report.across.devices:
        assert found.verdict != "parts"
        assert {gap.op for gap in found.layers if gap.verdict == "allowed"} <= {"Add"}
        assert len(found.layers) >= 15


def test_reference_kernels_give_the_bits_of_this_machine(rows: list[arm.Row]) -> None:
    ours = [row for row in rows if row.kernels == "LiteRT, reference"]
    assert len(ours) == len(arm.CPUS) * 4
    assert [row for row in ours if row.verdict != "bit-equal"] == []


def test_xnnpack_is_at_most_a_step_away(rows: list[arm.Row]) -> None:
    """By one step: its softmax computes in float, and the exponential differs."""
    ours = [row for row in rows if row.kernels == "LiteRT, default"]
    assert len(ours) == len(arm.CPUS) * 5
    assert [row for row in ours if row.more] == []


def test_integer_models_take_fewer_instructions(rows: list[arm.Row]) -> None:
    counted = {(row.model, row.kernels, row.cpu): row.ratio for row in rows if row.integers}
    assert len(counted) == len(arm.CPUS) * 10
    # What ONNX Runtime's own tool makes (S8S8) takes 0.77 and 0.39 there.
    assert counted[arm.MOBILENET, "ORT, default", "cortex-a53"] <= 0.77
    assert counted[arm.MOBILENET, "ORT, default", "cortex-a76"] <= 0.39
    assert max(r for (_, kernels, _), r in counted.items() if kernels.startswith("LiteRT")) < 1
