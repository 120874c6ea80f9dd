"""Runners that speak the agent's protocol, and all kinds behind a real sshd."""

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.catalog import open_device
from qcompile.targets.devices.device import Program, TimingPlan
from qcompile.targets.devices.links import local_link
from qcompile.targets.devices.runners.opening import open_runner
from tests.conftest import ROOT
from tests.targets.devices.models import AFFINE, AFFINE_FEED, model
from tests.targets.devices.phones import processes_with
from tests.targets.devices.processes import wait_until
from tests.targets.devices.runners.made import peer
from tests.targets.devices.sshd import Server, put_ssh_on_path, running_sshd

SPEAKER = """
import os, sys
from qcompile.targets.devices.wire import MARKER, pack, pack_arrays, read_frame, unpack_arrays

def answer(header, arrays=()):
    described, blobs = pack_arrays(arrays)
    for piece in pack({**header, "arrays": described}, blobs):
        sys.stdout.buffer.write(piece)
    sys.stdout.flush()

stream = sys.stdin.buffer
stream.read(int(stream.readline()))  # the agent in Python, which is not for us
while True:
    try:
        header, blobs = read_frame(stream.read)
    except EOFError:
        os._exit(0)
    if header["op"] == "hello":
        sys.stdout.buffer.write(b"\\n" + MARKER + header["word"].encode() + b"\\n")
        answer({"version": 1, "device": {
            "machine": "riscv64", "system": "RTOS", "cpu": "a chip", "cores": 1, "flags": [],
            "runtimes": {"onnxruntime": "1.0"}, "governor": "", "temperature": None}})
    elif header["op"] == "load":
        answer({"inputs": ["x"], "outputs": ["y"]})
    elif header["op"] == "run":
        (name, array), = unpack_arrays(header["arrays"], blobs)
        answer({}, [("y", array * 2)])
"""


@pytest.fixture
def speaker(tmp_path: Path) -> Path:
    """A runner that speaks the agent's protocol; its arithmetic is its own."""
    path = tmp_path / "speaker"
    python = f"PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)}"
    path.write_text(
        "#!/bin/sh\n"
        '[ "$1" = --help ] && { echo "speaks qcompile-agent 1"; exit; }\n'
        f"exec env {python} -c {shlex.quote(SPEAKER)}\n"
    )
    return path


def test_a_runner_that_speaks_the_protocol(speaker: Path, tmp_path: Path) -> None:
    base = tmp_path / "device"
    base.mkdir()
    link = replace(local_link("local"), base=str(base))
    with open_runner(link, speaker, timeout=20.0) as device:
        assert (device.info.machine, device.info.cpu) == ("riscv64", "a chip")
        session = device.session(Program(b"any", "onnxruntime"))
        (found,) = session.run({"x": np.array([1.5], np.float32)})
        assert found.tolist() == [3.0]
        assert len(list(base.iterdir())) == 1
    assert list(base.iterdir()) == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real sshd whose shell prints a welcome first."""
    with running_sshd(tmp_path_factory.mktemp("sshd")) as one:
        yield one


@pytest.fixture
def spec(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PATH", put_ssh_on_path(server, tmp_path, os.environ["PATH"]))
    return "ssh:board"


def left(server: Server) -> list[str]:
    return sorted(path.name for path in (server.folder / "tmp").glob("qcompile-*"))


def test_times(server: Server, spec: str, tmp_path: Path) -> None:
    runner = peer(tmp_path, "perf_test", "onnxruntime_perf_test")
    programs = {"m": Program(model(AFFINE), "onnxruntime")}
    with open_device(spec, timeout=30.0, runner=runner) as device:
        assert device.info.spec == "ssh:board"
        assert device.info.machine == os.uname().machine
        timed = device.time(programs, {"m": [AFFINE_FEED]}, TimingPlan(0.01, (2, 2)))
    assert timed.seconds["m"].shape == (2,)
    assert left(server) == []


def test_the_agents_protocol(server: Server, spec: str, speaker: Path) -> None:
    with open_device(spec, timeout=20.0, runner=speaker) as device:
        assert device.info.machine == "riscv64"
    assert wait_until(lambda: left(server) == [])


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_connection_that_is_cut(server: Server, spec: str, tmp_path: Path, how: str) -> None:
    """Nothing is left there, neither process nor file."""
    runner = tmp_path / "onnxruntime_perf_test"
    runner.write_text('#!/bin/sh\n[ "$1" = --help ] && exit\ntouch started\nsleep 9999\n')
    programs = {"m": Program(model(AFFINE), "onnxruntime")}
    stopped: list[int] = []

    def cut() -> None:
        wait_until(lambda: any((server.folder / "tmp").glob("*/started")))
        if how == "frozen":
            stopped.extend(server.freeze())
        else:
            for pid in server.connections():
                os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=cut)
    thread.start()
    start = time.monotonic()
    with (
        open_device(spec, timeout=4.0, runner=runner) as device,
        pytest.raises(QCompileError) as caught,
    ):
        device.time(programs, {"m": [AFFINE_FEED]}, TimingPlan(0.01, (2, 2)))
    thread.join()
    assert caught.value.code is Code.DEVICE_LOST
    assert time.monotonic() - start < 25
    for pid in stopped:  # what was frozen sees that the client has gone
        os.kill(pid, signal.SIGCONT)
    assert wait_until(lambda: not processes_with("sleep\x009999"))
    assert wait_until(lambda: left(server) == [])


def test_a_host_that_is_not_there(spec: str, tmp_path: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        open_device("ssh:no-such-host.invalid", timeout=5.0, runner=tmp_path / "none")
    assert caught.value.code is Code.DEVICE_LOST
    assert "no-such-host.invalid" in caught.value.message
