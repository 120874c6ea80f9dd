"""A check on devices: what is measured where, which limits hold there, and what is refused."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler import check as check_module
from qcompile.compiler import devices as devices_module
from qcompile.compiler.api import check
from qcompile.compiler.device_options import device_options
from qcompile.compiler.report.json_view import report_json
from qcompile.compiler.report.model import CheckReport
from qcompile.core.errors import Code, QCompileError
from tests.compiler import small
from tests.compiler.fake_device import FakeDevice, emulated

SAMPLES = 24


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.saved(small.cnn(), tmp_path_factory.mktemp("devices"))


@pytest.fixture(scope="module")
def artefact(cnn: Path) -> Path:
    out = cnn.with_name("int8.onnx")
    small.built(cnn, data={"x": small.pictures(32)}, out=out)
    return out


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeDevice]:
    """Devices by spec; put one in and it can be opened."""
    known: dict[str, FakeDevice] = {}

    def open_device(spec: str, *, timeout: float, runner: Path | None = None) -> FakeDevice:
        return known[spec]

    monkeypatch.setattr(devices_module, "open_device", open_device)
    assert check_module.open_devices is devices_module.open_devices
    return known


def checked(artefact: Path, reference: Path, **options: object) -> CheckReport:
    given = {"data": {"x": small.pictures(SAMPLES, seed=5)}, **options}
    return check(artefact, reference=reference, **given)  # type: ignore[arg-type]


def test_everything_runs_on_the_device(
    cnn: Path, artefact: Path, offered: dict[str, FakeDevice]
) -> None:
    device = offered["local"] = FakeDevice()
    report = checked(artefact, cnn, devices="local", max_latency="15ms", min_speedup=1.9)
    assert [gate.passed for gate in report.gates] == [True, True]
    assert all(gate.remark.startswith("on local") for gate in report.gates)
    assert report.accuracy is not None
    assert report.accuracy.samples == SAMPLES
    assert report.accuracy.arithmetic == "the kernels of local (onnxruntime 1.32.0)"
    assert report.measured.latency is not None
    assert report.measured.latency.ratios[0].value == pytest.approx(0.5)
    assert report.measured.latency.temperatures == (40.0, 41.0)
    assert device.programs[0].data == artefact.read_bytes()
    assert device.closed


def test_a_limit_of_time_that_the_device_breaks(
    cnn: Path, artefact: Path, offered: dict[str, FakeDevice]
) -> None:
    offered["local"] = FakeDevice()
    report = checked(artefact, cnn, devices="local", max_latency="0.9ms", max_latency_ratio=0.49)
    assert [gate.passed for gate in report.gates] == [False, False]
    assert not report.passed


def test_an_emulated_device_counts_and_is_never_timed(
    cnn: Path, artefact: Path, offered: dict[str, FakeDevice]
) -> None:
    offered["qemu:cortex-a76"] = emulated(counts={"float": 1000, "integer": 390})
    report = checked(artefact, cnn, devices="qemu:cortex-a76", max_instructions_ratio=0.4)
    assert report.measured.latency is None
    assert "emulated" in report.measured.no_latency
    counted = report.measured.instructions
    assert counted is not None
    assert (counted.label, counted.ratio) == ("ARM64 instructions (emulated)", 0.39)
    (gate,) = report.gates
    assert gate.passed
    assert report.accuracy is not None
    assert report.accuracy.samples == 8
    assert report.accuracy.data.startswith("8 evenly of: 24 samples of ")
    assert not checked(
        artefact, cnn, devices="qemu:cortex-a76", max_instructions_ratio=0.38, device_samples=2
    ).passed


def test_the_number_of_samples_can_be_said(
    cnn: Path, artefact: Path, offered: dict[str, FakeDevice]
) -> None:
    offered["local"] = FakeDevice()
    report = checked(artefact, cnn, devices="local", device_samples=3, latency=False)
    assert report.accuracy is not None
    assert report.accuracy.samples == 3


@pytest.mark.parametrize(
    "limit", [{"max_latency": "15ms"}, {"min_speedup": 1.0}, {"max_latency_ratio": 1.0}]
)
def test_time_is_no_limit_on_an_emulated_device(
    limit: dict[str, object], cnn: Path, artefact: Path, offered: dict[str, FakeDevice]
) -> None:
    device = offered["qemu:cortex-a76"] = emulated(counts={"float": 10, "integer": 5})
    with pytest.raises(QCompileError, match="times mean nothing") as caught:
        checked(artefact, cnn, devices="qemu:cortex-a76", **limit)
    assert caught.value.code is Code.DEVICE_UNFIT
    assert not device.programs, "it is refused before anything runs"
    assert device.closed


@pytest.mark.parametrize("devices", [None, "local"])
def test_instructions_need_an_emulated_device(
    devices: str | None, cnn: Path, artefact: Path, offered: dict[str, FakeDevice]
) -> None:
    offered["local"] = FakeDevice(counts={"float": 10, "integer": 5})
    with pytest.raises(QCompileError, match="emulated device") as caught:
        checked(artefact, cnn, devices=devices, max_instructions_ratio=0.5)
    assert caught.value.code is Code.BAD_OPTION


def test_each_device_is_held_to_the_limits_it_can_be_held_to(
    cnn: Path, artefact: Path, offered: dict[str, FakeDevice]
) -> None:
    offered["local"] = FakeDevice()
    offered["qemu:cortex-a76"] = emulated(counts={"float": 1000, "integer": 900})
    report = checked(
        artefact,
        cnn,
        devices=["local", "qemu:cortex-a76"],
        max_latency_ratio=0.6,
        max_instructions_ratio=0.5,
        min_sqnr=10.0,
    )
    held = [(gate.name, gate.remark.split(";")[0], gate.passed) for gate in report.gates]
    assert held == [
        ("min-sqnr", "on local", True),
        ("max-latency-ratio", "on local", True),
        ("min-sqnr", "on qemu:cortex-a76", True),
        ("max-instructions-ratio", "on qemu:cortex-a76", False),
    ]
    assert [one.device.spec for one in report.devices] == ["local", "qemu:cortex-a76"]


def test_what_a_device_cannot_do_is_said(
    cnn: Path, artefact: Path, offered: dict[str, FakeDevice]
) -> None:
    """A native runner may time models and take no inputs; an emulator may not count."""
    offered["qemu:cortex-a76"] = emulated(refuses_inputs=True)
    report = checked(artefact, cnn, devices="qemu:cortex-a76")
    assert report.accuracy is None
    assert report.devices[0].no_accuracy == "its runner takes no inputs"
    assert report.measured.devices[0].no_instructions == "it does not count instructions"
    with pytest.raises(QCompileError, match="min-sqnr"):
        checked(artefact, cnn, devices="qemu:cortex-a76", min_sqnr=10.0)


def test_a_machine_that_the_target_is_not_for_is_told(
    cnn: Path, artefact: Path, offered: dict[str, FakeDevice]
) -> None:
    offered["qemu:cortex-a76"] = emulated()
    report = checked(artefact, cnn, devices="qemu:cortex-a76", device_samples=1)
    assert "not a machine that ort-x86-avx2 is made for" in report.notes[0].message


def test_a_float_model_with_external_data_is_sent_as_one_file(
    tmp_path: Path, artefact: Path, offered: dict[str, FakeDevice]
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        small.cnn(), str(path), save_as_external_data=True, location="w.bin", size_threshold=0
    )
    offered["local"] = FakeDevice()
    report = checked(artefact, path, devices="local", device_samples=1)
    assert report.measured.latency is not None


def test_the_views(cnn: Path, artefact: Path, offered: dict[str, FakeDevice]) -> None:
    offered["local"] = FakeDevice()
    report = checked(artefact, cnn, devices="local")
    html = report._repr_html_()
    assert "a [CPU], 4 cores, avx2, vnni, onnxruntime 1.32.0, governor performance" in html
    data = json.loads(report_json(report, measured=True))
    (device,) = data["devices"]
    assert device["device"]["runtimes"] == {"onnxruntime": "1.32.0"}
    assert data["measured"]["devices"][0]["latency"]["ratios"][0]["value"] == 0.5
    assert "measured" not in json.loads(report_json(report))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, 60, None, None), "--device-timeout needs --device"),
        ((None, None, "runner", None), "--runner needs --device"),
        (([], None, None, 4), "--device-samples needs --device"),
        ((["local", "local"], None, None, None), "given twice"),
        ("local:0", "at least 1"),
        (("local", "soon", None, None), "cannot be read"),
    ],
)
def test_options_that_cannot_be(given: object, message: str) -> None:
    arguments = ("local", None, None, 0) if given == "local:0" else given
    with pytest.raises(QCompileError, match=message) as caught:
        device_options(*arguments)  # type: ignore[misc]
    assert caught.value.code is Code.BAD_OPTION


def test_a_real_process_of_this_machine(cnn: Path, artefact: Path) -> None:
    report = checked(artefact, cnn, devices="local", max_latency_ratio=1e6)
    here = checked(artefact, cnn, latency=False)
    assert report.passed
    assert report.accuracy is not None
    assert here.accuracy is not None
    assert report.accuracy.outputs == here.accuracy.outputs
    assert report.devices[0].device.cores >= 1
    assert np.isfinite(report.measured.latency.ratios[0].value)  # type: ignore[union-attr]


def test_a_build_is_verified_on_its_devices(
    cnn: Path, tmp_path: Path, offered: dict[str, FakeDevice]
) -> None:
    offered["local"] = FakeDevice()
    offered["qemu:cortex-a76"] = emulated(counts={"float": 100, "integer": 40})
    built = small.built(
        cnn,
        data={"x": small.pictures(32)},
        eval_data={"x": small.pictures(SAMPLES, seed=5)},
        devices=["local", "qemu:cortex-a76"],
        out=tmp_path / "int8.onnx",
        latency=True,
    )
    report = built.report
    assert [one.accuracy and one.accuracy.samples for one in report.devices] == [SAMPLES, 8]
    assert report.accuracy is not None
    assert report.accuracy.arithmetic != report.devices[0].accuracy.arithmetic  # type: ignore[union-attr]
    assert report.measured.latency is not None
    assert report.measured.latency.ratios[0].value == pytest.approx(0.5), "the device's, not ours"
    assert report.measured.devices[1].instructions is not None
    assert offered["local"].programs[0].data == built.artefact
    saved = json.loads((tmp_path / "int8.onnx.report.json").read_text())
    assert [one["device"]["spec"] for one in saved["devices"]] == ["local", "qemu:cortex-a76"]
    assert "0.400x" in report._repr_html_()


def test_a_build_without_devices_opens_none(cnn: Path, offered: dict[str, FakeDevice]) -> None:
    assert small.built(cnn, data={"x": small.pictures(32)}).report.devices == ()
