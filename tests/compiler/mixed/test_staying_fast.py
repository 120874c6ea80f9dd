"""``--never-slower`` all the way: figures in the plan, the same bytes from it, and refusals."""

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qcompile.compiler import finish
from qcompile.compiler.api import BuildResult, build_for
from qcompile.compiler.mixed import staying_fast
from qcompile.compiler.report.table_view import print_report
from qcompile.core.errors import Code, QCompileError
from qcompile.targets.catalog import load_target
from qcompile.targets.host import runs_here
from tests.compiler import small
from tests.compiler.fake_device import INFO, FakeDevice, emulated

ON_ARM = runs_here(load_target("ort-arm64"))
UNMEASURED = "tflite-micro"
"""A target that this machine is not one of, and whose costs nobody has measured."""


def built(folder: Path, **options: Any) -> BuildResult:
    """A small network, built to be never slower."""
    chosen = {"data": {"x": small.pictures(32)}, "never_slower": True, **options}
    return small.built(small.saved(small.cnn(), folder), **chosen)


def with_device(monkeypatch: pytest.MonkeyPatch, device: FakeDevice) -> FakeDevice:
    monkeypatch.setattr(staying_fast, "open_device", lambda spec, **_: device)
    return device


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """A device on which everything that is compiled takes twice the time of the float model."""
    return with_device(monkeypatch, FakeDevice(seconds={"float": 1e-3, "integer": 2e-3}))


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    return with_device(monkeypatch, FakeDevice())


def layers(result: BuildResult) -> dict[str, str]:
    return {name: n.mode for name, n in result.plan.nodes.items() if n.cost is not None}


def test_a_device_decides_and_is_closed(fast: FakeDevice, tmp_path: Path) -> None:
    result = built(tmp_path, devices="local")
    assert fast.closed
    assert set(layers(result).values()) == {"integer"}
    assert [row.node for row in result.report.regions] == list(layers(result))
    assert all(row.measured for row in result.report.regions)
    assert any("timed on local" in str(note) for note in result.report.notes)
    plain = built(tmp_path, never_slower=False)
    assert plain.artefact == result.artefact
    assert plain.report.regions == ()


def test_what_is_always_slower_ends_as_float_and_says_so(
    slow: FakeDevice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    result = built(tmp_path, devices="local", out=out)
    assert set(layers(result).values()) == {"float"}
    assert result.report.coverage.macs_share == 0.0
    assert any("slower than float" in text for text in small.warnings(result))
    print_report(result.report, sys.stdout)
    said = capsys.readouterr().out
    assert "Layers by what they take" in said
    again = small.built(
        tmp_path / "model.onnx", plan=f"{out}.plan.json", target=None, never_slower=True
    )
    assert again.artefact == result.artefact == out.read_bytes()
    assert again.report.regions == result.report.regions
    assert any("not looked at" in str(note) for note in again.report.notes)


def test_without_a_clock_the_table_of_the_target_decides(tmp_path: Path) -> None:
    result = built(tmp_path, latency=False)  # AVX2, whose table is shipped
    assert not any(row.measured for row in result.report.regions)
    assert result.report.regions
    assert any("nothing was timed" in text for text in small.warnings(result))
    again = built(tmp_path / "again", latency=False)
    assert again.artefact == result.artefact


@pytest.mark.skipif(ON_ARM, reason="it is timed here")
def test_for_arm_instructions_give_a_first_guess_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    result = built(tmp_path, target="ort-arm64", latency=True, out=out)
    (said,) = [text for text in small.warnings(result) if "first guess" in text]
    assert "instructions (emulated)" in said
    assert "measure on the device" in said
    assert {row.unit for row in result.report.regions} == {"instructions"}
    assert not any(row.measured for row in result.report.regions)
    assert not any("even" in row.reason for row in result.report.regions)
    print_report(result.report, sys.stdout)
    shown = capsys.readouterr().out
    table = shown[shown.index("Layers by what a table says") :]
    assert "instructions (emulated)" in table.splitlines()[0]
    again = small.built(tmp_path / "model.onnx", plan=f"{out}.plan.json", target=None)
    assert again.artefact == result.artefact
    assert again.report.regions == result.report.regions


def test_an_emulated_device_leaves_the_choice_to_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device = with_device(monkeypatch, emulated())
    monkeypatch.setattr(finish, "open_devices", lambda _: nullcontext(()))
    result = built(tmp_path, target="ort-arm64", devices="qemu:cortex-a76")
    assert device.closed
    assert any("first guess" in text for text in small.warnings(result))


def test_here_it_is_timed_and_the_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    if not runs_here(load_target(small.TARGET)):
        pytest.skip("this machine has no AVX2")
    out = tmp_path / "out.onnx"
    result = built(tmp_path, latency=True, out=out)
    assert all(row.measured for row in result.report.regions)
    assert result.report.measured.latency is not None
    again = small.built(tmp_path / "model.onnx", plan=f"{out}.plan.json", target=None)
    assert again.artefact == result.artefact


def refused(folder: Path, code: Code, **options: Any) -> QCompileError:
    with pytest.raises(QCompileError) as raised:
        built(folder, **options)
    assert raised.value.code is code
    return raised.value


def test_refusals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error = refused(tmp_path, Code.DEVICE_UNFIT, target=UNMEASURED, latency=True)
    assert "--device" in (error.hint or "")
    device = with_device(monkeypatch, emulated())
    refused(tmp_path, Code.DEVICE_UNFIT, devices="qemu:cortex-a76", target=UNMEASURED)
    assert device.closed
    with_device(monkeypatch, FakeDevice())
    refused(tmp_path, Code.DEVICE_UNFIT, devices="local", target="ort-arm64")
    with_device(monkeypatch, FakeDevice(replace(INFO, runtimes={})))
    refused(tmp_path, Code.MISSING_RUNTIME, devices="local")
    refused(tmp_path, Code.NO_DATA, scheme="w8a8-dynamic", data=None)
    with pytest.raises(QCompileError) as raised:
        build_for(
            small.saved(small.cnn(), tmp_path),
            ["ort-x86-avx2", "ort-x86-vnni"],
            data={"x": small.pictures(16)},
            effort="fast",
            latency=False,
            never_slower=True,
        )
    assert raised.value.code is Code.BAD_OPTION


def test_budgets_are_held_against_what_is_built(slow: FakeDevice, tmp_path: Path) -> None:
    result = built(tmp_path, devices="local", max_size="60%")
    assert result.report.mixed is not None
    (gate,) = result.report.mixed.gates
    assert gate.value == len(result.artefact)
    assert not gate.passed, "as floats it is larger than that"
