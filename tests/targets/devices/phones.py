"""Devices behind the real adb client, with a server on a port of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import ROOT

PEER = "tests.targets.devices.adb_peer"
NO_ADB = "no adb: apt-get install adb (as .ci/run does)"


@dataclass
class Phone:
    """A peer that adb is connected to."""

    root: Path
    """Its ``/data/local/tmp``."""
    serial: str
    process: subprocess.Popen[str]

    @property
    def spec(self) -> str:
        return f"adb:{self.serial}"

    def files(self) -> list[str]:
        """What lies in its folder, besides its programs and switches."""
        return sorted(p.name for p in self.root.iterdir() if p.name.startswith("qcompile-"))

    def processes(self) -> list[str]:
        """Command lines of what it started and of what that started."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if f"HOME={self.root}\0".encode() in (path / "environ").read_bytes():
                    found.append((path / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return [command for command in found if command]  # without the dead

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def put_program(self, name: str, text: str) -> None:
        """A program that comes before those of this machine."""
        path = self.root / "bin" / name
        path.write_text(text)
        path.chmod(0o755)


@dataclass
class AdbServer:
    """The user's adb, on a port of its own."""

    folder: Path
    port: int
    phones: list[Phone] = field(default_factory=list)

    def plug_in(self, name: str, features: str, *, path: str = "") -> Phone:
        """Connect a new device; its programs are those of ``path``, of this machine if empty."""
        root = self.folder / name
        (root / "bin").mkdir(parents=True)
        process = subprocess.Popen(
            [sys.executable, "-m", PEER, str(root), features, path or os.environ["PATH"]],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        serial = f"127.0.0.1:{process.stdout.readline().strip()}"
        process.stdout.close()
        phone = Phone(root, serial, process)
        self.phones.append(phone)
        assert "connected" in self.run("connect", serial)
        return phone

    def run(self, *words: str) -> str:
        done = subprocess.run(
            ["adb", "-P", str(self.port), *words], capture_output=True, text=True, timeout=20
        )
        return done.stdout + done.stderr


@contextmanager
def running_adb(folder: Path) -> Iterator[AdbServer]:
    """Start a server; it and its devices are ended in the end. Sets this process's environment."""
    if shutil.which("adb") is None:
        pytest.skip(NO_ADB)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = AdbServer(folder, port)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        patch.setenv("HOME", str(folder))
        patch.setenv("TMPDIR", str(folder))
        try:
            yield server
        finally:
            for phone in server.phones:
                phone.kill()
            server.run("kill-server")


def processes_with(word: str) -> list[int]:
    """Numbers of the processes, this one aside, whose command line contains a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if word.encode() in command and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found
