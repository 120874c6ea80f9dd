"""A check whose device is driven by a native runner: what it tells, and what it leaves out."""

from pathlib import Path

import pytest

from qcompile.compiler.api import check
from tests.compiler import small
from tests.targets.devices.runners.made import peer, starts


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.saved(small.cnn(), tmp_path_factory.mktemp("runners"))


def test_times_alone_with_perf_test(cnn: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.onnx"
    small.built(cnn, data={"x": small.pictures(32)}, out=out)
    report = check(
        out,
        reference=cnn,
        data={"x": small.pictures(8, seed=5)},
        devices=["local"],
        runner=peer(tmp_path, "perf_test", "onnxruntime_perf_test"),
    )
    (device,) = report.devices
    assert device.accuracy is None
    assert "gives no outputs" in device.no_accuracy
    latency = report.measured.latency
    assert latency is not None and [timing.name for timing in latency.timings] == [
        "float",
        "integer",
    ]
    assert "runs in one start of onnxruntime_perf_test" in latency.each
    assert len({line[1] for line in starts(tmp_path)}) == 2, "both models ran"


@pytest.mark.litert
def test_outputs_too_with_benchmark_model(cnn: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.tflite"
    small.built(cnn, data={"x": small.pictures(32)}, out=out, target="tflite-arm64")
    report = check(
        out,
        reference=cnn,
        data={"x": small.pictures(8, seed=5)},
        devices=["local"],
        device_samples=2,
        runner=peer(tmp_path, "benchmark_model"),
        latency=False,
    )
    here = check(out, reference=cnn, data={"x": small.pictures(2, seed=5)}, latency=False)
    accuracy = report.devices[0].accuracy
    assert accuracy is not None and here.accuracy is not None
    assert "benchmark_model" in str(accuracy)
    assert accuracy.agreement == here.accuracy.agreement
