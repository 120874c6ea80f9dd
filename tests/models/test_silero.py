"""Silero VAD: If bodies may stay float, are named, and the detector still hears speech."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.api import build
from tests.figures import Figures
from tests.models.building import Built
from tests.models.running import script, sqnr

pytestmark = [pytest.mark.models, pytest.mark.slow]


def test_voice_activity(
    models_dir: Path, builder: Callable[..., Built], figures: Figures, tmp_path: Path
) -> None:
    silero = script(models_dir / "silero_vad" / "evaluate.py")
    frames, activity = silero.recording("evaluation")
    before, _ = silero.run(silero.FLOAT, frames)
    heard = float(np.mean((before > 0.5) == (activity == 1)))
    assert heard == pytest.approx(0.939, abs=0.001)

    for split, count in (("calibration", 256), ("evaluation", 64)):
        (tmp_path / split).mkdir()
        for number, feeds in enumerate(silero.feeds(split, count)):
            np.savez(tmp_path / split / f"{number:03}.npz", **feeds)
    data, judged = tmp_path / "calibration", tmp_path / "evaluation"
    built = builder(Path(silero.FLOAT), data, evaluation=judged)
    after, _ = silero.run(str(built.path), frames)  # its own state fed back
    same_side = float(np.mean((before > 0.5) == (after > 0.5)))
    quality = sqnr(silero.logit(before), silero.logit(after))
    still_heard = float(np.mean((after > 0.5) == (activity == 1)))
    figures.add("silero_vad", "accuracy at 0.5", heard, still_heard, "loss <= 0.010")
    figures.add("silero_vad", "same side of 0.5", 1.0, same_side, ">= 0.97")
    figures.add("silero_vad", "SQNR of the logit, dB", "inf", quality, ">= 14")
    assert heard - still_heard <= 0.010
    assert same_side >= 0.97
    assert quality >= 14  # quantize_dynamic of ONNX Runtime: 0.8 dB
    assert "If" in {node["op"] for node in built.report["coverage"]["float_nodes"]}


def test_its_own_state_fed_back(models_dir: Path, figures: Figures, tmp_path: Path) -> None:
    """Calibrated over a real sequence; the artefact then lives on its own state."""
    silero = script(models_dir / "silero_vad" / "evaluate.py")
    frames, _ = silero.recording("evaluation")
    before, _ = silero.run(silero.FLOAT, frames)
    speech, _ = silero.recording("calibration")
    out, settings = tmp_path / "vad.onnx", tmp_path / "qcompile.toml"
    settings.write_text('[data.constants]\nsr = 16000\n[state]\n"stateN" = "state"\n')
    given = {"config": settings, "latency": False, "effort": "max"}
    build(silero.FLOAT, data={"input": speech}, target="ort-x86-avx2", out=out, **given)  # type: ignore[arg-type]
    after, _ = silero.run(str(out), frames)
    off = float(np.mean(np.abs(before - after)))
    figures.add("silero_vad", "mean error of the probability, own state", 0.0, off, "<= 0.02")
    assert off <= 0.02
