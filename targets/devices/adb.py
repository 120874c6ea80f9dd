"""``adb:SERIAL``: an Android device, or a board with adbd, through the user's own adb client.

Tested with adb 29 against a protocol peer, with and without the feature ``shell_v2``, and with
Android's shell and programs (mksh, toybox) behind it. Not tested: a real device, authorization (the
user's adb does it), USB.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.channel import BOOT
from qcompile.targets.devices.commands import call, start
from qcompile.targets.devices.device import Device
from qcompile.targets.devices.remote import AgentDevice, Transport
from qcompile.targets.devices.runners.opening import open_runner
from qcompile.targets.devices.shell import Shell

BASE: Final = "/data/local/tmp"
"""The folder that every Android device lets adb's shell write to and run programs from."""

_SERIAL: Final = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9._:%\[\]-]*")
"""Serial numbers, ``host:port`` and the names of wireless debugging; nothing that an option of adb
or a shell could be mistaken for."""
_PYTHON: Final = re.compile(r"[A-Za-z0-9_/.][A-Za-z0-9_/.+-]*")
_HOMES: Final = ("ANDROID_HOME", "ANDROID_SDK_ROOT")


@dataclass(frozen=True)
class AdbLink:
    """A device that adb reaches; ``open_link`` makes one."""

    spec: str
    adb: str
    serial: str
    separates: bool
    """Whether its shell has stdout, stderr and stdin of its own (``shell_v2``), not a terminal."""
    base: str = BASE

    def execute(self, script: str, *, timeout: float) -> tuple[bytes, bytes]:
        """Run a script in the device's shell (see ``Link``)."""
        plain = ["-T"] if self.separates else []
        code, out, err = self._call(["shell", *plain, script], timeout)
        if code != 0 and err.startswith((b"error:", b"adb:")):  # of the client, not the script
            raise _lost(self.spec, err)
        return out, err

    def send(self, data: bytes, path: str, *, timeout: float) -> None:
        """Write a file there (see ``Link``)."""
        with tempfile.TemporaryDirectory(prefix="qcompile-adb-") as folder:
            local = Path(folder) / "file"
            local.write_bytes(data)
            self._sync(["push", str(local), path], timeout)

    def fetch(self, path: str, *, timeout: float) -> bytes:
        """Read a file there (see ``Link``)."""
        with tempfile.TemporaryDirectory(prefix="qcompile-adb-") as folder:
            local = Path(folder) / "file"
            self._sync(["pull", path, str(local)], timeout)
            return local.read_bytes()

    def command(self, script: str) -> tuple[str, ...]:
        """A command line that is a script there (see ``Link``).

        Raises:
            QCompileError: DEVICE_UNFIT where its adbd knows shells in a terminal alone.
        """
        if not self.separates:
            raise QCompileError(
                Code.DEVICE_UNFIT,
                f"{self.spec}: its adbd is too old to talk to a program there (no shell_v2)",
                hint="give a native runner: --runner PATH",
            )
        return (self.adb, "-s", self.serial, "shell", "-T", script)

    def start(self, script: str, mark: bytes, *, timeout: float) -> "subprocess.Popen[bytes]":
        """A script that runs there until its stdin is closed (see ``Link``)."""
        plain = ["-T"] if self.separates else []
        command = [self.adb, "-s", self.serial, "shell", *plain, script]
        return start(command, mark, timeout=timeout, name=self.spec)

    def close(self) -> None:
        """Nothing to end: the adb server is the user's."""

    def _sync(self, words: Sequence[str], timeout: float) -> None:
        code, out, err = self._call(words, timeout)
        if code != 0:
            raise _lost(self.spec, err or out)

    def _call(self, words: Sequence[str], timeout: float) -> tuple[int, bytes, bytes]:
        return _adb(self.spec, self.adb, ["-s", self.serial, *words], timeout)


def open_adb(spec: str, rest: str, *, timeout: float, runner: Path | None) -> Device:
    """Open a device: a runner on it, or the agent where it has a Python.

    Args:
        spec: what the user called it.
        rest: ``SERIAL[,python=COMMAND]``; ``python3`` unless said.
        timeout: seconds without an answer after which it is lost.
        runner: native program to drive there.

    Raises:
        QCompileError: as ``open_link``, ``open_runner`` and ``AgentDevice``; DEVICE_UNFIT without a
            runner where there is no Python, as on a phone.
    """
    serial, comma, python = rest.partition(",python=")
    if not _PYTHON.fullmatch(python if comma else "python3"):
        raise QCompileError(
            Code.UNKNOWN_DEVICE, f"{python!r} is no command", hint="adb:SERIAL,python=/path/python3"
        )
    link = open_link(spec, serial, timeout=timeout)
    if runner is not None:
        return open_runner(link, runner, timeout=timeout)
    command = python if comma else "python3"
    with Shell(link, timeout=timeout) as shell:
        found = shell.run(["sh", "-c", f"command -v {command}"]).code == 0
    if not found:
        raise QCompileError(
            Code.DEVICE_UNFIT,
            f"{spec} has no {command}",
            hint="give a native runner for it: --runner PATH (benchmark_model, "
            "onnxruntime_perf_test); a board with a Python elsewhere: adb:SERIAL,python=COMMAND",
        )
    start = link.command(f"exec {command} -c '{BOOT}'")
    return AgentDevice(Transport(spec, start), timeout=timeout)


def open_link(spec: str, serial: str, *, timeout: float) -> AdbLink:
    """Find a device that adb is connected to.

    Args:
        spec: what the user called it.
        serial: as ``adb devices`` lists it.
        timeout: seconds that adb may take to answer.

    Raises:
        QCompileError: UNKNOWN_DEVICE for a serial that adb does not know, with those it does;
            DEVICE_NOT_PREPARED without adb; DEVICE_UNFIT for a device that has not said yes to this
            computer; DEVICE_LOST for one that does not answer.
    """
    if not _SERIAL.fullmatch(serial):
        raise QCompileError(
            Code.UNKNOWN_DEVICE, f"{serial!r} is not a serial number", hint="see `adb devices`"
        )
    adb = _find_adb()
    _adb(spec, adb, ["start-server"], timeout)
    code, _, err = _adb(spec, adb, ["-s", serial, "get-state"], timeout)
    if code != 0:
        raise _refused(spec, serial, err.decode(errors="replace"), _serials(spec, adb, timeout))
    code, out, err = _adb(spec, adb, ["-s", serial, "features"], timeout)
    if code != 0:
        raise _lost(spec, err)
    return AdbLink(spec, adb, serial, separates="shell_v2" in out.decode().split())


def _find_adb() -> str:
    homes = [Path(os.environ[name], "platform-tools") for name in _HOMES if os.environ.get(name)]
    found = [shutil.which("adb"), *(shutil.which("adb", path=str(home)) for home in homes)]
    adb = next((path for path in found if path), None)
    if adb is None:
        raise QCompileError(
            Code.DEVICE_NOT_PREPARED,
            "adb is not installed",
            hint="install Android's platform tools (Debian: apt install adb)",
        )
    return adb


def _adb(spec: str, adb: str, words: Sequence[str], timeout: float) -> tuple[int, bytes, bytes]:
    try:
        done = call([adb, *words], timeout=timeout)
    except OSError as error:
        raise QCompileError(Code.DEVICE_NOT_PREPARED, f"{adb} cannot be run: {error}") from error
    if done is None:
        raise QCompileError(Code.DEVICE_LOST, f"{spec}: no answer within {timeout:.0f} s")
    return done


def _serials(spec: str, adb: str, timeout: float) -> list[str]:
    """What ``adb devices`` lists."""
    _, out, _ = _adb(spec, adb, ["devices"], timeout)
    rows = [line.split("\t") for line in out.decode(errors="replace").splitlines()]
    return [row[0] for row in rows if len(row) == 2]


def _refused(spec: str, serial: str, said: str, known: Sequence[str]) -> QCompileError:
    """The error for what ``adb get-state`` said."""
    if "unauthorized" in said or "authorizing" in said:
        return QCompileError(
            Code.DEVICE_UNFIT,
            f"{spec} has not allowed this computer to debug it",
            hint="confirm the question on its screen",
        )
    if "not found" not in said:
        return _lost(spec, said.encode())
    hint = f"adb knows {', '.join(known)}" if known else "`adb devices` lists none"
    if ":" in serial:
        hint += f"; `adb connect {serial}` reaches one over the network"
    return QCompileError(Code.UNKNOWN_DEVICE, f"adb knows no device {serial}", hint=hint)


def _lost(spec: str, said: bytes) -> QCompileError:
    lines = said.decode(errors="replace").strip().splitlines()
    reason = f": {lines[-1]}" if lines else ""
    return QCompileError(Code.DEVICE_LOST, f"{spec} was lost{reason}")
