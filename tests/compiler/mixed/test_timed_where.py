"""A budget of time on the device that a build names, where this machine is not the target."""

from dataclasses import replace
from pathlib import Path

import pytest

from qcompile.compiler import devices as devices_module
from qcompile.compiler.mixed import timed_where
from qcompile.compiler.report.mixed import Gate
from qcompile.compiler.report.model import BuildReport
from qcompile.core.errors import Code, QCompileError
from tests.compiler import small
from tests.compiler.fake_device import INFO, FakeDevice, emulated

PHONE = replace(INFO, spec="adb:1", machine="aarch64", features=frozenset({"dotprod", "i8mm"}))
TARGET = "ort-arm64"


def built(
    monkeypatch: pytest.MonkeyPatch, folder: Path, device: FakeDevice, most: str
) -> BuildReport:
    def open_device(spec: str, *, timeout: float, runner: Path | None = None) -> FakeDevice:
        assert spec == device.info.spec
        return device

    monkeypatch.setattr(timed_where, "open_device", open_device)
    monkeypatch.setattr(devices_module, "open_device", open_device)
    source = small.saved(small.cnn(), folder)
    return small.built(
        source,
        data={"x": small.pictures(32)},
        target=TARGET,
        devices=device.info.spec,
        max_latency=most,
        latency=True,
    ).report


def clocked(report: BuildReport) -> Gate:
    assert report.measured.mixed is not None
    (gate,) = report.measured.mixed.gates
    return gate


@pytest.mark.parametrize(("most", "holds"), [("5ms", True), ("0.5ms", False), ("0.5x", True)])
def test_the_device_decides(
    most: str, holds: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = built(monkeypatch, tmp_path, FakeDevice(PHONE), most)
    gate = clocked(report)
    assert (gate.value, gate.passed) == (pytest.approx(1.0), holds)
    assert gate.remark.endswith("on adb:1")
    assert report.passed is holds


def test_an_emulated_device_has_no_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = emulated("qemu:max")
    with pytest.raises(QCompileError, match="times mean nothing") as caught:
        built(monkeypatch, tmp_path, device, "5ms")
    assert caught.value.code is Code.DEVICE_UNFIT
    assert device.closed


def test_a_machine_of_another_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(QCompileError, match="not what ort-arm64 is made for"):
        built(monkeypatch, tmp_path, FakeDevice(INFO), "5ms")
