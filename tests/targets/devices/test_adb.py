"""``adb:`` against the real adb client and a peer: exit codes, copies, cuts, freezes, runners."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.adb import open_link
from qcompile.targets.devices.catalog import open_device
from qcompile.targets.devices.device import Program, TimingPlan
from qcompile.targets.devices.remote import AgentDevice
from qcompile.targets.devices.shell import Shell
from tests.targets.devices.android import android_path
from tests.targets.devices.models import AFFINE, AFFINE_FEED, ENDLESS, ENDLESS_FEED, model
from tests.targets.devices.phones import AdbServer, Phone, processes_with, running_adb
from tests.targets.devices.processes import wait_until
from tests.targets.devices.runners.made import peer, starts

TIMEOUT = 3.0
OLD, NEW = "cmd", "shell_v2,cmd"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    with running_adb(tmp_path_factory.mktemp("adb")) as one:
        yield one
    assert processes_with(f"tcp:{one.port}") == []


@pytest.fixture(scope="module", params=["shell_v2", "terminal", "Android's programs"])
def phone(
    server: AdbServer, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Phone:
    android = request.param == "Android's programs"
    path = android_path(tmp_path_factory.mktemp("android")) if android else ""
    features = OLD if request.param == "terminal" else NEW
    return server.plug_in(f"phone-{len(server.phones)}", features, path=path)


@pytest.fixture(scope="module")
def new_phone(server: AdbServer) -> Phone:
    return server.plug_in(f"phone-{len(server.phones)}", NEW)


@pytest.fixture
def doomed(server: AdbServer) -> Phone:
    """A device of its own for a test that ends it."""
    return server.plug_in(f"phone-{len(server.phones)}", NEW)


def shell_of(phone: Phone, timeout: float = 10.0) -> Shell:
    return Shell(open_link(phone.spec, phone.serial, timeout=timeout), timeout=timeout)


def test_exit_codes_come_back(phone: Phone) -> None:
    """A terminal shell loses them, and mixes what is printed."""
    with shell_of(phone) as shell:
        done = shell.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
        assert done.code == 7
        assert "out\n" in done.stdout
        assert done.text.split() == ["out", "err"]
        assert shell.run(["true"]).code == 0
        assert shell.run(["no-such-program"]).code == 127
        assert shell.run(["sh", "-c", "printf no-newline"]).stdout == "no-newline"
    assert phone.files() == []


def test_nothing_is_text_for_a_shell(phone: Phone) -> None:
    words = [
        "a b",
        "$HOME",
        "`id`",
        "$(id)",
        ";exit 3",
        "'",
        '"',
        "\\",
        "*",
        "!x",
        "&",
        "> y",
        "-e",
    ]
    with shell_of(phone) as shell:
        done = shell.run(["printf", "%s\\n", *words])
    assert done.code == 0 and done.stdout.splitlines() == words


def test_a_copy_of_three_megabytes_is_checked(phone: Phone) -> None:
    data = np.random.default_rng(0).bytes(3_000_001)
    with shell_of(phone, timeout=30.0) as shell:
        path = shell.push(data, "m1/model.bin")
        assert path.startswith("/data/local/tmp/qcompile-")
        assert shell.pull("m1/model.bin") == data
        shell.remove("m1/model.bin", "m1/never.there")
        with pytest.raises(QCompileError) as caught:
            shell.pull("m1/model.bin")
        assert caught.value.code is Code.RUNTIME_FAILED
    assert phone.files() == []


def test_a_copy_that_arrives_damaged(phone: Phone) -> None:
    (phone.root / "damages").touch()
    try:
        with shell_of(phone) as shell, pytest.raises(QCompileError) as caught:
            shell.push(b"12345", "model")
    finally:
        (phone.root / "damages").unlink()
    assert caught.value.code is Code.DEVICE_LOST
    assert "damaged" in caught.value.message
    assert phone.files() == []


def test_a_program_is_ended_at_its_deadline(phone: Phone) -> None:
    with shell_of(phone) as shell:
        start = time.monotonic()
        done = shell.run(["sh", "-c", "sleep 4444; true"], timeout=1.0)
        assert time.monotonic() - start < 5
    assert done.code == 137
    assert wait_until(lambda: not phone.processes())


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_device_that_goes_while_a_program_runs(doomed: Phone, how: str) -> None:
    shell = shell_of(doomed, timeout=TIMEOUT)
    number = 9 if how == "killed" else 19
    doomed.put_program(
        "goes",
        f"#!/bin/sh\nkill -{number} {doomed.process.pid}\nexec sleep 5555\n",
    )
    start = time.monotonic()
    with pytest.raises(QCompileError) as caught:
        shell.run(["goes"], timeout=1.0)
    assert caught.value.code is Code.DEVICE_LOST
    with pytest.raises(QCompileError) as again:
        shell.run(["true"])
    assert again.value.code is Code.DEVICE_LOST
    shell.close()
    assert time.monotonic() - start < 1.0 + 5.0 + TIMEOUT
    doomed.kill()  # what was frozen notices that no one is there any more
    assert wait_until(lambda: not doomed.processes()), "it ended with its connection"
    assert wait_until(lambda: doomed.files() == []), "and its folder went with it"


def test_a_device_that_dies_in_the_middle_of_a_copy(doomed: Phone) -> None:
    shell = shell_of(doomed, timeout=TIMEOUT)
    (doomed.root / "cut-after").write_text("1000000")
    with pytest.raises(QCompileError) as caught:
        shell.push(bytes(3_000_000), "model")
    assert caught.value.code is Code.DEVICE_LOST
    shell.close()


def test_a_client_that_goes_leaves_nothing_on_the_device(server: AdbServer, doomed: Phone) -> None:
    """The cable is pulled: adbd ends the shell with HUP."""
    shell = shell_of(doomed, timeout=TIMEOUT)
    doomed.put_program("waits", "#!/bin/sh\nexec sleep 6666\n")
    doomed.put_program(
        "pulls", f"#!/bin/sh\n(sleep 0.3; touch {doomed.root}/pulled) & exec waits\n"
    )

    def pull() -> None:
        wait_until(lambda: (doomed.root / "pulled").exists())
        server.run("disconnect", doomed.serial)

    thread = threading.Thread(target=pull)
    thread.start()
    with pytest.raises(QCompileError) as caught:
        shell.run(["pulls"], timeout=30.0)
    thread.join()
    assert caught.value.code is Code.DEVICE_LOST
    assert wait_until(lambda: not doomed.processes()), doomed.processes()
    assert wait_until(lambda: doomed.files() == [])
    shell.close()


@pytest.mark.parametrize(
    "serial", ["-a", "", "a b", "x;id", "$(id)", "a\nb", "--", "nosuch", "10.0.0.9:5555"]
)
def test_a_serial_that_adb_does_not_know(server: AdbServer, new_phone: Phone, serial: str) -> None:
    with pytest.raises(QCompileError) as caught:
        open_device(f"adb:{serial}", timeout=TIMEOUT)
    assert caught.value.code is Code.UNKNOWN_DEVICE
    if serial == "nosuch":
        assert new_phone.serial in str(caught.value.hint)
    if ":5555" in serial:
        assert f"adb connect {serial}" in str(caught.value.hint)


@pytest.mark.parametrize("python", ["x y", "a;b", "", "$(id)", "-c"])
def test_a_python_that_is_no_command(new_phone: Phone, python: str) -> None:
    with pytest.raises(QCompileError) as caught:
        open_device(f"{new_phone.spec},python={python}", timeout=TIMEOUT)
    assert caught.value.code is Code.UNKNOWN_DEVICE


def test_without_adb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("ANDROID_HOME", raising=False)
    monkeypatch.delenv("ANDROID_SDK_ROOT", raising=False)
    with pytest.raises(QCompileError) as caught:
        open_link("adb:x", "x", timeout=TIMEOUT)
    assert caught.value.code is Code.DEVICE_NOT_PREPARED
    assert caught.value.hint


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", "UNFIT"),
        ("error: device still authorizing", "UNFIT"),
        ("error: device offline", "LOST"),
        ("error: protocol fault (no status)", "LOST"),
    ],
)
def test_a_device_in_another_state(
    said: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which the peer knows none: what adb says is recorded."""
    adb = tmp_path / "adb"
    adb.write_text(f'#!/bin/sh\ncase "$*" in *get-state) echo "{said}" >&2; exit 1;; esac\n')
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(QCompileError) as caught:
        open_link("adb:x", "x", timeout=TIMEOUT)
    assert caught.value.code is Code[f"DEVICE_{code}"]


def test_a_phone_without_python_needs_a_runner(phone: Phone) -> None:
    with pytest.raises(QCompileError) as caught:
        open_device(f"{phone.spec},python=/no/python3", timeout=10.0)
    assert caught.value.code is Code.DEVICE_UNFIT
    assert "--runner" in str(caught.value.hint)
    assert phone.files() == []


def test_the_agent_runs_where_there_is_a_python(new_phone: Phone) -> None:
    with open_device(f"{new_phone.spec},python={sys.executable}", timeout=30.0) as device:
        assert isinstance(device, AgentDevice)
        session = device.session(Program(model(AFFINE), "onnxruntime"))
        (found,) = session.run(AFFINE_FEED)
        assert found.shape == (2, 3)
        assert any("stdin.buffer.read(int(" in command for command in new_phone.processes())
    assert wait_until(lambda: not new_phone.processes())


def test_the_agent_needs_a_shell_without_a_terminal(server: AdbServer) -> None:
    old = server.plug_in(f"phone-{len(server.phones)}", OLD)
    with pytest.raises(QCompileError) as caught:
        open_device(f"{old.spec},python={sys.executable}", timeout=10.0)
    assert caught.value.code is Code.DEVICE_UNFIT


def test_an_agent_that_is_cut_off_ends(doomed: Phone) -> None:
    device = open_device(f"{doomed.spec},python={sys.executable}", timeout=TIMEOUT)
    session = device.session(Program(model(ENDLESS), "onnxruntime"))
    killer = threading.Timer(0.5, doomed.kill)
    killer.start()
    with pytest.raises(QCompileError) as caught:
        session.run(ENDLESS_FEED)
    killer.join()
    device.close()
    assert caught.value.code is Code.DEVICE_LOST
    assert wait_until(lambda: not doomed.processes())


def test_a_runner_times_programs(phone: Phone, tmp_path: Path) -> None:
    runner = peer(tmp_path, "perf_test", "onnxruntime_perf_test")
    phone.put_program(
        "getprop",
        '#!/bin/sh\ncase "$1" in ro.soc.model) echo SM8550;; ro.product.model) echo Phone 9;;'
        " ro.build.version.release) echo 14;; *) echo;; esac\n",
    )
    programs = {"float": Program(model(AFFINE), "onnxruntime")}
    with open_device(phone.spec, timeout=30.0, runner=runner) as device:
        info = device.info
        timed = device.time(programs, {"float": [AFFINE_FEED]}, TimingPlan(0.01, (2, 2)))
    assert (info.spec, info.system, info.cpu) == (phone.spec, "Android 14", "SM8550 (Phone 9)")
    assert timed.seconds["float"].shape == (2,)
    assert 0 < timed.seconds["float"].max() < 1
    assert len(starts(tmp_path)) >= 3
    assert phone.files() == []
