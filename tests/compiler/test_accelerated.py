"""Builds for a target whose artefacts a tool compiles: files, report, gates, and how they fail."""

from pathlib import Path

import numpy as np
import pytest

import qcompile
from qcompile.core.errors import Code, QCompileError
from qcompile.targets.ethos_u import vela
from tests.compiler import small
from tests.targets.ethos_u.models import LEAVES, U55, U85

pytestmark = [pytest.mark.litert]
DATA = {"data": small.DIGITS / "calibration.npz", "eval_data": small.DIGITS / "test.npz"}
OPTIONS = {**DATA, "config": small.DIGITS / "qcompile.toml", "latency": False, "effort": "fast"}
MODEL = small.DIGITS / "digits.onnx"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.ethos_u
def test_the_compiled_file_ships_and_what_it_was_made_from_lies_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "d.tflite"
    built = qcompile.build(MODEL, target=U55, out=out, **OPTIONS)  # type: ignore[arg-type]
    assert files(tmp_path) == [
        "d.tflite",
        "d.tflite.plan.json",
        "d.tflite.plan.npz",
        "d.tflite.portable.tflite",
        "d.tflite.report.json",
    ]
    assert out.read_bytes() == built.artefact
    portable = tmp_path / "d.tflite.portable.tflite"
    assert portable.read_bytes() == built.portable
    offload = built.report.offload
    assert offload is not None
    assert offload.off == ()
    assert offload.estimates["cycles"] > 0
    assert built.report.artefact.bytes == len(built.artefact)
    accuracy = built.report.accuracy
    assert accuracy is not None
    assert "before Vela" in accuracy.arithmetic
    assert any("portable.tflite" in str(note) for note in built.report.notes)

    micro = qcompile.build(MODEL, target="tflite-micro", **OPTIONS)  # type: ignore[arg-type]
    assert micro.report.accuracy is not None
    assert micro.report.accuracy.outputs == accuracy.outputs, "the same model, reference kernels"

    checked = qcompile.check(
        portable, reference=MODEL, data=DATA["eval_data"], config=OPTIONS["config"],
        latency=False, max_off_target=0, max_sram="1MB",
    )  # fmt: skip
    assert checked.passed
    assert checked.offload == offload.__class__(**{**vars(offload), "off_macs_share": None})
    inspected = qcompile.inspect(out)
    assert dict(inspected.op_counts) == {"custom:ethos-u": 1}
    assert "the NPU runs it all" in [note.message for note in inspected.notes]
    with pytest.raises(QCompileError, match="compiled for an Arm Ethos-U") as caught:
        qcompile.check(out, reference=MODEL, data=DATA["eval_data"], config=OPTIONS["config"])
    assert caught.value.code is Code.RUNTIME_REFUSED


@pytest.mark.ethos_u
def test_a_saved_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    first = qcompile.build(MODEL, target=U55, out=tmp_path / "d.tflite", **OPTIONS)  # type: ignore[arg-type]
    settings = {"config": OPTIONS["config"], "latency": False}
    again = qcompile.build(MODEL, plan=tmp_path / "d.tflite.plan.json", **settings)  # type: ignore[arg-type]
    assert again.report.target == U55
    assert again.artefact == first.artefact
    assert again.portable == first.portable


@pytest.mark.ethos_u
def test_one_plan_for_a_processor_and_two_npus(tmp_path: Path) -> None:
    built = qcompile.build_for(MODEL, ["ort-arm64", U55, U85], out=tmp_path, **OPTIONS)  # type: ignore[arg-type]
    assert "digits.ort-arm64.onnx" in files(tmp_path)
    for name in (U55, U85):
        start = f"digits.{name}.tflite"
        assert (tmp_path / start).read_bytes() == built[name].artefact
        assert (tmp_path / f"{start}.portable.tflite").read_bytes() == built[name].portable
        assert any("differ by at most" in str(note) for note in built[name].report.notes)
    scales = [
        [entry.params.scale.tobytes() for entry in result.plan.values.values() if entry.params]
        for result in built.values()
    ]
    assert scales[0] == scales[1] == scales[2]


@pytest.mark.ethos_u
def test_what_the_npu_leaves_is_told_and_gated(tmp_path: Path) -> None:
    model = small.saved(small.text_model(LEAVES, {"w": small.weights(0, 8, 8, 1, 1)}), tmp_path)
    x = np.random.default_rng(1).normal(size=(4, 8, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    out = tmp_path / "out" / "m.tflite"
    out.parent.mkdir()
    options = {"target": U55, "data": tmp_path / "x.npz", "out": out}
    built = small.built(model, max_off_target=0, **options)
    assert built.report.offload is not None
    (off,) = built.report.offload.off
    assert (off.name, off.op, off.reason) == ("LogSoftmax", "LOG_SOFTMAX", "Unsupported opType")
    assert not built.report.passed
    assert files(out.parent) == []
    assert small.built(model, max_off_target=1, max_cycles=1e6, **options).report.passed


def test_without_vela_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vela, "find_spec", lambda name: None)
    with pytest.raises(QCompileError, match="ethos-u") as caught:
        qcompile.build(MODEL, target=U55, out=tmp_path / "d.tflite", **OPTIONS)  # type: ignore[arg-type]
    assert caught.value.code is Code.MISSING_EXTRA
    assert files(tmp_path) == []


@pytest.mark.ethos_u
def test_when_vela_fails_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "mine.toml"
    target.write_text(
        f'base = "{U55}"\nschema = 1\nname = "mine"\n'
        '[accelerator.options]\nsystem-config = "Nothing_Of_The_Kind"\n'
    )
    (tmp_path / "out").mkdir()
    with pytest.raises(QCompileError, match="Nothing_Of_The_Kind not found") as caught:
        qcompile.build(MODEL, target=target, out=tmp_path / "out" / "d.tflite", **OPTIONS)  # type: ignore[arg-type]
    assert caught.value.code is Code.ACCELERATOR_REFUSED
    assert files(tmp_path / "out") == []
