"""``ssh:`` against a real sshd: runs, noise of shells, cuts and freezes, and nothing is left."""

import os
import pwd
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.catalog import open_device
from qcompile.targets.devices.device import Program
from qcompile.targets.devices.qemu_userland import find_userland
from qcompile.targets.devices.remote import AgentDevice
from qcompile.targets.devices.ssh import parse_host, ssh_command
from tests.targets.devices.models import AFFINE, AFFINE_FEED, ENDLESS, ENDLESS_FEED, model
from tests.targets.devices.processes import agents, state, wait_until
from tests.targets.devices.sshd import Server, put_ssh_on_path, running_sshd

TIMEOUT = 4.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as one:
        yield one


@pytest.fixture
def spec(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the device; ``ssh`` on the path knows how to get there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("PATH", put_ssh_on_path(server, tmp_path, os.environ["PATH"]))
    return f"ssh:board,python={sys.executable}"


# ---- names


@pytest.mark.parametrize(
    ("rest", "destination", "port", "python"),
    [
        ("host", "host", None, "python3"),
        ("pi@raspberry.local:2222", "pi@raspberry.local", 2222, "python3"),
        ("a_b-c@10.0.0.7", "a_b-c@10.0.0.7", None, "python3"),
        ("pi@[fe80::1%eth0]:22", "pi@fe80::1%eth0", 22, "python3"),
        ("host,python=~/venv/bin/python3.9", "host", None, "~/venv/bin/python3.9"),
        ("host:22,python=/opt/py/python", "host", 22, "/opt/py/python"),
    ],
)
def test_a_host_is_taken_apart(rest: str, destination: str, port: int | None, python: str) -> None:
    host = parse_host(f"ssh:{rest}", rest)
    assert (host.destination, host.port, host.python) == (destination, port, python)
    command = ssh_command(host, 60.0)
    assert command[-2:] == ("--", destination)
    assert ("-p" in command) == (port is not None)


@pytest.mark.parametrize(("timeout", "alive"), [(4.0, 1), (30.0, 7), (600.0, 15)])
def test_ssh_notices_a_frozen_line_within_the_time_out(timeout: float, alive: int) -> None:
    command = ssh_command(parse_host("ssh:host", "host"), timeout)
    assert f"ServerAliveInterval={alive}" in command
    assert 3 * alive < timeout


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "-oProxyCommand=id",
        "-l@host",
        "user@-host",
        "a b",
        "host name",
        "host;id",
        "host'",
        'host"',
        "host`id`",
        "$(id)",
        "host\n",
        "hôst",
        "host:0",
        "host:70000",
        "host:22x",
        "host:-1",
        "user@other@host",
        "host,python=",
        "host,python=-c",
        "host,python=a b",
        "host,python=a;id",
        "host,python=~root;id",
        "host,python=$(id)",
        "host,python=a'",
        "host,shell=x",
        "[::1",
        "[host]:22",
        "host/path",
        "user:secret@host",
    ],
)
def test_what_could_be_an_option_or_shell_text_is_no_host(rest: str) -> None:
    with pytest.raises(QCompileError) as caught:
        open_device(f"ssh:{rest}")
    assert caught.value.code is Code.UNKNOWN_DEVICE


# ---- a real server


def left(server: Server) -> list[str]:
    """Temporary files on either side."""
    return os.listdir(server.folder / "tmp") + os.listdir(os.environ["TMPDIR"])


def test_it_runs_times_and_leaves_nothing(spec: str, server: Server) -> None:
    with open_device(spec, timeout=30.0) as device:
        (pid,) = agents(server.pid)
        session = device.session(Program(model(AFFINE), "onnxruntime"))
        (out,) = session.run(AFFINE_FEED)
        with open_device("local") as here:
            local = here.session(Program(model(AFFINE), "onnxruntime")).run(AFFINE_FEED)
            assert here.info.runtimes == device.info.runtimes
        assert np.array_equal(out, local[0])
        timed = device.time({"a": Program(model(AFFINE), "onnxruntime")}, {"a": [AFFINE_FEED]})
        assert len(timed.seconds["a"]) >= 7
    assert wait_until(lambda: state(pid) in ("", "Z"))
    assert wait_until(lambda: not server.connections())
    assert left(server) == []


def test_the_port_may_stand_in_the_name(spec: str, server: Server) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    name = f"ssh:{user}@127.0.0.1:{server.port},python={sys.executable}"
    with open_device(name, timeout=30.0) as device:
        assert device.info.spec == name


def test_a_large_model_gets_there_whole(spec: str) -> None:
    """More than any buffer on the way, both ways."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y)
        { y = Identity(x) }"""
    value = np.random.default_rng(0).standard_normal(3_000_000).astype(np.float32)
    with open_device(spec, timeout=30.0) as device:
        (out,) = device.session(Program(model(text), "onnxruntime")).run({"x": value})
    assert np.array_equal(out, value)


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("ssh:board,python=/no/such/python", Code.MISSING_RUNTIME, "/no/such/python"),
        ("ssh:board,python=/bin/true", Code.DEVICE_LOST, "exit code 0"),
        ("ssh:127.0.0.1:1", Code.DEVICE_LOST, "refused"),
        ("ssh:nobody-here@board", Code.DEVICE_LOST, "Permission denied"),
        ("ssh:unknown-key", Code.DEVICE_LOST, "connect once by hand"),
        ("ssh:no-such-host.invalid", Code.DEVICE_LOST, "resolve"),
    ],
)
def test_what_cannot_be_reached_says_why(spec: str, name: str, code: Code, says: str) -> None:
    with pytest.raises(QCompileError) as caught:
        open_device(name, timeout=20.0)
    assert caught.value.code is code
    assert says in str(caught.value)


@pytest.mark.arm
def test_an_emulated_arm64_board(server: Server, spec: str, tmp_path: Path) -> None:
    """Its Python is ARM64's; a cut in the middle of an emulated inference leaves nothing."""
    machine = find_userland()
    assert machine is not None
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec {shlex.join(machine.command("cortex-a53", []))} "$@"\n')
    python.chmod(0o755)
    with open_device(f"ssh:board,python={python}", timeout=90.0) as device:
        assert device.info.machine == "aarch64"
        (pid,) = agents(server.pid)
        (out,) = device.session(Program(model(AFFINE), "onnxruntime")).run(AFFINE_FEED)
        with open_device("local") as here:
            (expected,) = here.session(Program(model(AFFINE), "onnxruntime")).run(AFFINE_FEED)
        assert np.abs(out - expected).max() < 1e-6
        session = device.session(Program(model(ENDLESS), "onnxruntime"))
        timer = threading.Timer(1.0, kill_connection, (server, device))
        timer.start()
        with pytest.raises(QCompileError) as caught:
            session.run(ENDLESS_FEED)
        assert caught.value.code is Code.DEVICE_LOST
        assert wait_until(lambda: state(pid) in ("", "Z"))
    assert left(server) == []


# ---- cut and frozen


def kill_connection(server: Server, device: AgentDevice) -> None:
    for pid in server.connections():
        os.kill(pid, signal.SIGKILL)


def freeze_connection(server: Server, device: AgentDevice) -> None:
    assert server.freeze()


def kill_client(server: Server, device: AgentDevice) -> None:
    os.kill(device.process, signal.SIGKILL)


def freeze_client(server: Server, device: AgentDevice) -> None:
    os.kill(device.process, signal.SIGSTOP)


@pytest.mark.parametrize(
    ("cut", "idle"),
    [
        (kill_connection, False),
        (kill_connection, True),
        (kill_client, False),
        (kill_client, True),
        (freeze_connection, False),
        (freeze_client, False),
    ],
)
def test_a_cut_is_an_error_and_leaves_nothing(
    spec: str, server: Server, cut: Callable[[Server, AgentDevice], None], idle: bool
) -> None:
    device = open_device(spec, timeout=TIMEOUT)
    assert isinstance(device, AgentDevice)
    try:
        (pid,) = agents(server.pid)
        session = device.session(Program(model(ENDLESS), "onnxruntime"))
        caught: list[QCompileError] = []
        start = time.monotonic()

        def run() -> None:
            try:
                session.run(ENDLESS_FEED)
            except QCompileError as error:
                caught.append(error)

        worker = threading.Thread(target=run)
        if not idle:
            worker.start()
            time.sleep(0.5)
        cut(server, device)
        if idle:
            worker.start()
        worker.join(3 * TIMEOUT)
        assert [error.code for error in caught] == [Code.DEVICE_LOST]
        assert time.monotonic() - start < TIMEOUT + 3.0
        assert wait_until(lambda: state(pid) in ("", "Z"), TIMEOUT + 3.0)
        assert state(device.process) == ""
    finally:
        device.close()
        for frozen in server.connections():
            os.kill(frozen, signal.SIGKILL)
    assert left(server) == []


def test_a_cut_while_opening_is_an_error(spec: str, server: Server, tmp_path: Path) -> None:
    """A Python there that never answers."""
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 1000\n")
    slow.chmod(0o755)
    start = time.monotonic()
    with pytest.raises(QCompileError) as caught:
        open_device(f"ssh:board,python={slow}", timeout=2.0)
    assert caught.value.code is Code.DEVICE_LOST
    assert time.monotonic() - start < 5.0


def test_an_error_in_the_middle_closes_in_order(spec: str, server: Server) -> None:
    def fail() -> None:
        with open_device(spec, timeout=TIMEOUT) as device:
            found.extend(agents(server.pid))
            device.session(Program(model(AFFINE), "onnxruntime"))
            raise ZeroDivisionError

    found: list[int] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    (pid,) = found
    assert wait_until(lambda: state(pid) in ("", "Z"))
