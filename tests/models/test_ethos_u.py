"""The real models on three Ethos-U: all of them on the NPU, and what Vela estimates."""

from pathlib import Path

import numpy as np
import pytest

import qcompile
from qcompile.compiler.finish import BuildResult
from qcompile.targets.catalog import load_target
from qcompile.targets.ethos_u.vela import Vela
from tests.figures import Figures
from tests.models import imagenet
from tests.models.running import script
from tests.models.test_mlperf_tiny import save
from tests.targets.ethos_u.models import ALL, U55

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.litert, pytest.mark.ethos_u]

MOST_CYCLES = {"kws_dscnn": 1.16, "resnet8_cifar10": 1.05, "vww_96": 1.05, "ad_autoencoder": 1.35}
"""Model -> most cycles over those of TFLiteConverter's file. The autoencoder waits for its weights:
a scale a channel keeps 10 dB more of it, and lets Vela compress them less."""


def calibration(name: str, folder: Path) -> np.ndarray:
    """Samples of one of the four, as its input takes them."""
    if name == "vww_96":
        return np.asarray(script(folder / "vww_data.py").calibration())
    stem = {"resnet8_cifar10": "cifar10", "kws_dscnn": "kws", "ad_autoencoder": "ad"}[name]
    return np.asarray(np.load(folder / f"{stem}_calibration.npz")["x"], np.float32)


def is_whole(name: str, built: dict[str, BuildResult], figures: Figures) -> None:
    """Every node on the NPU, in one piece, with figures of what that takes."""
    for target, result in built.items():
        offload = result.report.offload
        assert offload is not None
        assert offload.off == (), f"{name} on {target}"
        assert (offload.on, offload.partitions, offload.islands) == (offload.nodes, 1, 0)
        cycles, sram = offload.estimates["cycles"], offload.estimates["sram_bytes"]
        figures.add(name, f"{target}, CPU operators", "-", len(offload.off), "0")
        figures.add(name, f"{target}, estimated cycles", "-", cycles)
        figures.add(name, f"{target}, estimated SRAM, KiB", "-", sram / 1024)
        assert cycles > 0
        assert sram > 0
        assert result.portable is not None


@pytest.mark.parametrize("name", MOST_CYCLES)
def test_mlperf_tiny(name: str, models_dir: Path, figures: Figures, tmp_path: Path) -> None:
    folder = models_dir / "mlperf_tiny"
    data = save(tmp_path / "c.npz", calibration(name, folder))
    built = qcompile.build_for(
        folder / f"{name}.onnx", ALL, data=data, effort="fast", latency=False
    )
    is_whole(name, built, figures)
    peer = (folder / f"{name}_int8_peer.tflite").read_bytes()
    for target, result in built.items():
        theirs = Vela().accelerate(peer, load_target(target)).offload
        offload = result.report.offload
        assert offload is not None
        ratio = offload.estimates["cycles"] / theirs.estimates["cycles"]
        most = MOST_CYCLES[name]
        figures.add(name, f"{target}, cycles / TFLiteConverter's", "-", ratio, f"<= {most}")
        assert ratio <= most


def test_mobilenet(models_dir: Path, figures: Figures, tmp_path: Path) -> None:
    model = models_dir / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx"
    (tmp_path / "qcompile.toml").write_text(imagenet.CONFIG)
    data = imagenet.link(imagenet.calibration(models_dir)[:16], tmp_path / "calibration")
    built = qcompile.build_for(
        model, ALL, data=data, effort="fast", latency=False, config=tmp_path / "qcompile.toml"
    )
    is_whole(model.stem, built, figures)


def test_a_real_model_with_gates_by_the_command_line(
    models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from qcompile.compiler.cli.main import run

    folder = models_dir / "mlperf_tiny"
    data = save(tmp_path / "c.npz", calibration("kws_dscnn", folder))
    out = tmp_path / "out" / "kws.tflite"
    out.parent.mkdir()
    command = ["build", str(folder / "kws_dscnn.onnx"), "-t", U55, "-d", str(data)]
    command += ["-o", str(out), "--effort", "fast", "--no-latency", "--max-off-target", "0"]
    assert run([*command, "--max-sram", "16KiB"]) == 1
    assert "FAIL: max-sram 16,384" in capsys.readouterr().out.replace("16384", "16,384")
    assert list(out.parent.iterdir()) == []
    assert run([*command, "--max-sram", "32KiB", "--max-cycles", "100k"]) == 0
    assert "pass: max-off-target 0, counted 0" in capsys.readouterr().out
    assert out.is_file()
