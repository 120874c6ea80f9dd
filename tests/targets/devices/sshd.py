"""A real sshd on the loopback address, and an ``ssh`` on the path that knows it."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.targets.devices.processes import children, wait_until

NO_SSHD = "no sshd: apt-get install openssh-server (as .ci/run does)"

SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile {folder}/pid
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
ForceCommand {folder}/shell
SetEnv TMPDIR={folder}/tmp
"""

CLIENT = """
Host unknown-key
  HostName 127.0.0.1
  Port {port}
  UserKnownHostsFile /dev/null
Host *
  IdentityFile {folder}/user
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known
  StrictHostKeyChecking yes
Host board
  HostName 127.0.0.1
  Port {port}
  RemoteCommand echo this would break a command line
"""

SHELL = """#!/bin/sh
echo 'Welcome to the board!'
printf 'QCOMPILE-AGENT \\000\\377\\nQCF1'
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""
"""What prints before the command that was asked for, as rc files do."""


@dataclass(frozen=True)
class Server:
    """A running sshd."""

    folder: Path
    port: int
    pid: int

    def connections(self) -> list[int]:
        """Its children that serve a connection."""
        return children(self.pid)

    def freeze(self) -> list[int]:
        """Stop every process of every connection; what they started runs on."""
        found = [
            pid for one in self.connections() for pid in (one, *children(one)) if _is_sshd(pid)
        ]
        for pid in found:
            os.kill(pid, signal.SIGSTOP)
        return found


def _is_sshd(pid: int) -> bool:
    return os.path.basename(os.path.realpath(f"/proc/{pid}/exe")).startswith("sshd")


@contextmanager
def running_sshd(folder: Path) -> Iterator[Server]:
    """Start one with keys of its own; it and all its connections end with the block."""
    sshd = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if sshd is None or shutil.which("ssh") is None:
        pytest.skip(NO_SSHD)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of root locks itself in
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    port = _free_port()
    (folder / "server").write_text(SERVER.format(folder=folder, port=port))
    (folder / "client").write_text(CLIENT.format(folder=folder, port=port))
    host_key = (folder / "host.pub").read_text()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "shell").write_text(SHELL)
    (folder / "shell").chmod(0o755)
    (folder / "tmp").mkdir()
    process = subprocess.Popen(
        [sshd, "-D", "-f", str(folder / "server"), "-E", str(folder / "log")],
        stdin=subprocess.DEVNULL,
    )
    server = Server(folder, port, process.pid)
    try:
        assert wait_until(lambda: _listens(port)), (folder / "log").read_text()
        yield server
    finally:
        for pid in server.connections():
            os.kill(pid, signal.SIGKILL)
        process.terminate()
        process.wait(10)


def put_ssh_on_path(server: Server, folder: Path, path: str) -> str:
    """A PATH whose ``ssh`` is the real one with a configuration that knows the server."""
    real = shutil.which("ssh", path=path)
    assert real is not None
    config = shlex.quote(str(server.folder / "client"))
    script = folder / "ssh"
    script.write_text(f'#!/bin/sh\nexec {real} -F {config} "$@"\n')
    script.chmod(0o755)
    return f"{folder}:{path}"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        time.sleep(0.05)
        return False
