"""Devices that a runner is driven on: pairing, honest figures, outputs, refusals, nothing left."""

# ruff: noqa: SIM117
# What a device does when it is closed must not be caught.
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.device import Device, Program, TimingPlan
from qcompile.targets.devices.links import local_link
from qcompile.targets.devices.runners.opening import open_runner
from tests.targets.devices.models import AFFINE, AFFINE_FEED, SAME, model
from tests.targets.devices.runners.made import made, peer, starts

BRIEF = TimingPlan(seconds=0.01, rounds=(4, 4))
LARGER = model(SAME.format(dtype="float"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where runners are; what is sent must be gone in the end."""
    device = tmp_path / "a device"
    device.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(device))
    yield tmp_path
    assert list(device.iterdir()) == []


def opened(runner: Path, *, timeout: float = 20.0) -> Device:
    return open_runner(local_link("local"), runner, timeout=timeout)


def onnx_programs() -> tuple[dict[str, Program], dict[str, list[dict[str, np.ndarray]]]]:
    programs = {
        "float": Program(model(AFFINE), "onnxruntime"),
        "int8": Program(LARGER, "onnxruntime"),
    }
    return programs, {"float": [AFFINE_FEED], "int8": [{"x": np.ones((2, 3), np.float32)}]}


def test_onnx_programs_take_turns_back_and_forth(folder: Path) -> None:
    programs, feeds = onnx_programs()
    with opened(peer(folder, "perf_test", "onnxruntime_perf_test")) as device:
        assert device.info.runtimes == {"onnxruntime": "of onnxruntime_perf_test"}
        assert device.info.cores >= 1 and device.info.machine
        timed = device.time(programs, feeds, BRIEF)
    assert {name: row.shape for name, row in timed.seconds.items()} == {"float": (4,), "int8": (4,)}
    assert all(0 < row.max() < 1 for row in timed.seconds.values())
    assert all(1 <= len(row) <= 3 for row in timed.warm_up.values())
    noted = starts(folder)[-8:]
    a, b = dict.fromkeys(line[1] for line in noted)
    assert [line[1] for line in noted] == [a, b, b, a, a, b, b, a]
    assert "runs in one start of onnxruntime_perf_test" in timed.each
    assert timed.each.startswith("median of")
    assert all(len(line[4].split(",")) == 1 for line in noted), "one thread, one core"


def test_as_many_runs_as_fit_the_plan(folder: Path) -> None:
    """Not fewer than three, however long one takes."""
    programs, feeds = onnx_programs()
    with opened(peer(folder, "perf_test", "onnxruntime_perf_test")) as device:
        device.time({"float": programs["float"]}, feeds, TimingPlan(0.4, (2, 2)))
        many = int(starts(folder)[-1][3])
        device.time({"float": programs["float"]}, feeds, TimingPlan(1e-6, (2, 2)))
        rows, *_ = starts(folder)[-1][3:]
    assert many > 100
    assert int(rows) > 3, "the warm-up of perf_test is in its rows"


def test_outputs_cannot_be_had_of_perf_test(folder: Path) -> None:
    with opened(peer(folder, "perf_test", "onnxruntime_perf_test")) as device:
        with pytest.raises(QCompileError) as caught:
            device.session(Program(model(AFFINE), "onnxruntime"))
        with pytest.raises(QCompileError) as counted:
            device.instructions({}, {})
    assert caught.value.code is Code.DEVICE_UNFIT
    assert "Python" in str(caught.value.hint)
    assert counted.value.code is Code.DEVICE_UNFIT


def test_a_model_for_another_runtime(folder: Path) -> None:
    with opened(peer(folder, "perf_test", "onnxruntime_perf_test")) as device:
        with pytest.raises(QCompileError) as caught:
            device.time({"m": Program(b"", "tflite")}, {"m": [{}]}, BRIEF)
        assert caught.value.code is Code.MISSING_RUNTIME
        with pytest.raises(QCompileError) as caught:
            device.time({"m": Program(b"", "onnxruntime", kernels="reference")}, {"m": [{}]})
        assert caught.value.code is Code.DEVICE_UNFIT


def test_a_model_that_is_not_loaded(folder: Path) -> None:
    wrong = Program(model(AFFINE.replace("17", "999")), "onnxruntime")
    with opened(peer(folder, "perf_test", "onnxruntime_perf_test")) as device:
        with pytest.raises(QCompileError) as caught:
            device.time({"m": wrong}, {"m": [AFFINE_FEED]}, BRIEF)
    assert caught.value.code is Code.RUNTIME_REFUSED
    assert "Load model from" in caught.value.message


def test_a_run_that_fails_says_the_last_words(folder: Path) -> None:
    program = Program(model(AFFINE), "onnxruntime")
    with opened(peer(folder, "perf_test", "onnxruntime_perf_test")) as device:
        with pytest.raises(QCompileError) as caught:
            device.time({"m": program}, {"m": [{}]}, BRIEF)
    assert caught.value.code is Code.RUNTIME_FAILED
    assert "there is no test data" in caught.value.message


@pytest.mark.parametrize("kind", ["no file", "not a runner", "another processor's"])
def test_what_is_no_runner(folder: Path, kind: str) -> None:
    path = folder / "benchmark_of_mine"
    if kind == "not a runner":
        path = Path("/bin/ls")
    elif kind == "another processor's":
        path.write_bytes(b"\x7fELF" + bytes(60))
    with pytest.raises(QCompileError) as caught:
        opened(path)
    expected = Code.BAD_OPTION if kind == "no file" else Code.DEVICE_UNFIT
    assert caught.value.code is expected
    assert caught.value.hint or kind == "no file"


def test_a_runner_that_hangs_is_ended_there(folder: Path) -> None:
    hanging = folder / "onnxruntime_perf_test"
    hanging.write_text('#!/bin/sh\n[ "$1" = --help ] && exit\nsleep 4321\n')
    program = Program(model(AFFINE), "onnxruntime")
    with opened(hanging, timeout=1.0) as device:
        device._timeout = -38.0  # type: ignore[attr-defined]  # a start is given two seconds
        with pytest.raises(QCompileError) as caught:
            device.time({"m": program}, {"m": [AFFINE_FEED]}, BRIEF)
    assert caught.value.code is Code.RUNTIME_FAILED
    assert "signal 9" in caught.value.message
    running = [Path(p, "cmdline") for p in Path("/proc").glob("[0-9]*")]
    assert not any(b"sleep\x004321" in read(path) for path in running)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_one_start_at_a_time(folder: Path) -> None:
    """Sessions may be run by several threads at once."""
    programs, feeds = onnx_programs()
    with opened(peer(folder, "perf_test", "onnxruntime_perf_test")) as device:
        with ThreadPoolExecutor(3) as pool:
            plans = [TimingPlan(1e-6, (1, 1))] * 2
            found = list(pool.map(lambda plan: device.time(programs, feeds, plan), plans))
    assert [one.seconds["int8"].shape for one in found] == [(1,), (1,)]


def test_libraries_beside_the_runner_are_found(folder: Path) -> None:
    (folder / "libonnxruntime.so.1").write_bytes(b"of the runner")
    runner = folder / "onnxruntime_perf_test"
    runner.write_text('#!/bin/sh\ncat "$LD_LIBRARY_PATH/libonnxruntime.so.1"; exit 1\n')
    program = Program(model(AFFINE), "onnxruntime")
    with opened(runner) as device:
        with pytest.raises(QCompileError) as caught:
            device.time({"m": program}, {"m": [AFFINE_FEED]}, BRIEF)
    assert "of the runner" in caught.value.message


@pytest.mark.litert
class TestTflite:
    """``sound`` has two int8 inputs and one output."""

    @pytest.fixture
    def data(self) -> bytes:
        from tests.targets.tflite.sound import sound

        return sound()

    @pytest.fixture
    def feeds(self) -> dict[str, np.ndarray]:
        return {
            "other": np.arange(16, dtype=np.int8).reshape(1, 2, 2, 4),
            "x": np.arange(32, dtype=np.int8).reshape(1, 4, 4, 2),
        }

    def test_outputs_are_those_of_the_runtime_here(
        self, folder: Path, data: bytes, feeds: dict[str, np.ndarray]
    ) -> None:
        """Fed in the model's order, whatever that of the feeds."""
        from qcompile.targets.tflite.runtime import TfliteSession

        with opened(peer(folder, "benchmark_model")) as device:
            session = device.session(Program(data, "tflite"))
            assert tuple(session.input_names) == ("x", "other")
            assert tuple(session.output_names) == ("softmax",)
            (there,) = session.run(feeds)
            with pytest.raises(QCompileError, match="'x' is not given"):
                session.run({"other": feeds["other"]})
            with pytest.raises(QCompileError) as caught:
                device.session(Program(data, "tflite", kernels="builtin", taps=("conv",)))
        (here,) = TfliteSession(data).run(feeds)
        assert there.dtype == here.dtype and np.array_equal(there, here)
        assert caught.value.code is Code.DEVICE_UNFIT

    @pytest.mark.parametrize("kind", ["benchmark_model", "old_benchmark_model"])
    def test_times(
        self, folder: Path, data: bytes, feeds: dict[str, np.ndarray], kind: str
    ) -> None:
        programs = {"a": Program(data, "tflite"), "b": Program(data, "tflite", kernels="builtin")}
        with opened(peer(folder, kind, "benchmark_model")) as device:
            timed = device.time(programs, {"a": [feeds], "b": [feeds]}, BRIEF)
            if kind != "benchmark_model":
                with pytest.raises(QCompileError) as caught:
                    device.session(programs["a"])
                assert caught.value.code is Code.DEVICE_UNFIT
        assert [len(row) for row in timed.seconds.values()] == [4, 4]
        assert timed.each.startswith("mean of ")  # a model of a few microseconds
        assert all(0 < row.max() < 1 for row in timed.seconds.values())

    def test_a_model_that_is_not_loaded(
        self, folder: Path, data: bytes, feeds: dict[str, np.ndarray]
    ) -> None:
        with opened(peer(folder, "old_benchmark_model", "benchmark_model")) as device:
            with pytest.raises(QCompileError) as caught:
                device.time({"m": Program(data[:100], "tflite")}, {"m": [feeds]}, BRIEF)
        assert caught.value.code is Code.RUNTIME_REFUSED

    def test_the_real_tool_of_the_wheel(
        self, folder: Path, data: bytes, feeds: dict[str, np.ndarray]
    ) -> None:
        pytest.importorskip("ai_edge_litert.tools.benchmark_litert_model")
        tool = made(folder, "tool", "-m", "ai_edge_litert.tools.benchmark_litert_model")
        plan = TimingPlan(0.01, (1, 1))
        with opened(tool, timeout=60.0) as device:
            assert device.info.runtimes == {"tflite": "of tool"}
            timed = device.time({"m": Program(data, "tflite")}, {"m": [feeds]}, plan)
        assert timed.seconds["m"].shape == (1,)
        assert 0 <= timed.seconds["m"][0] < 1
        assert timed.each.endswith("in one start of benchmark_litert_model.py, told to 0.01 ms")
