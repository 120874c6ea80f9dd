"""Links that are a command line: this machine's own shell, and one behind ssh."""

import secrets
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.commands import call, start

_LONGEST: Final = 80
"""Letters of the name of a folder for a socket; ssh adds some, and the system allows 104 or 108."""


@dataclass(frozen=True)
class CommandLink:
    """See ``shell.Link``: every script is an argument of one command."""

    spec: str
    prefix: tuple[str, ...]
    """Starts a shell that takes the script as its last argument."""
    base: str
    is_ssh: bool = False
    """Whether that shell is the user's own there, not ``sh``, and exit code 255 is the client's."""
    shared: str = ""
    """Folder here with the socket by which all commands share the connection of ``start``."""

    def execute(self, script: str, *, timeout: float) -> tuple[bytes, bytes]:
        """Run a script (see ``Link``)."""
        _, out, err = self._call(script, timeout, None)
        return out, err

    def send(self, data: bytes, path: str, *, timeout: float) -> None:
        """Write a file (see ``Link``)."""
        self._call(f"cat > {shlex.quote(path)}", timeout, data)

    def fetch(self, path: str, *, timeout: float) -> bytes:
        """Read a file (see ``Link``)."""
        mark = secrets.token_hex(8)
        script = f"echo; echo {mark}; cat {shlex.quote(path)}"
        _, _, data = self._call(script, timeout, None)[1].partition(f"\n{mark}\n".encode())
        return data  # without what a shell prints when it starts

    def command(self, script: str) -> tuple[str, ...]:
        """A command line that is a script there (see ``Link``)."""
        return self._command(script, master="no")

    def start(self, script: str, mark: bytes, *, timeout: float) -> "subprocess.Popen[bytes]":
        """A script that runs there until its stdin is closed (see ``Link``)."""
        command = self._command(script, master="yes")
        return start(command, mark, timeout=timeout, name=self.spec)

    def close(self) -> None:
        """Nothing to end: every command ends by itself."""
        if self.shared:
            shutil.rmtree(self.shared, ignore_errors=True)

    def _command(self, script: str, *, master: str) -> tuple[str, ...]:
        if not self.is_ssh:
            return (*self.prefix, script)
        client, *rest = self.prefix  # of two values of an option ssh takes the first
        options = ("-o", f"ControlMaster={master}", "-o", f"ControlPath={self.shared}/c")
        sharing = options if self.shared else ()
        return (client, *sharing, *rest, f"exec sh -c {shlex.quote(script)}")

    def _call(self, script: str, timeout: float, data: bytes | None) -> tuple[int, bytes, bytes]:
        try:
            done = call(self.command(script), timeout=timeout, data=data)
        except OSError as error:
            raise QCompileError(
                Code.DEVICE_LOST, f"{self.spec}: {self.prefix[0]} does not start: {error.strerror}"
            ) from error
        if done is None:
            raise QCompileError(Code.DEVICE_LOST, f"{self.spec}: no answer within {timeout:.0f} s")
        code, _, err = done
        if self.is_ssh and code == 255:
            lines = err.decode(errors="replace").strip().splitlines()
            raise QCompileError(
                Code.DEVICE_LOST, f"{self.spec}: {lines[-1] if lines else 'the connection was cut'}"
            )
        return done


def local_link(spec: str) -> CommandLink:
    """This machine."""
    return CommandLink(spec, ("/bin/sh", "-c"), str(Path(tempfile.gettempdir())))


def ssh_link(spec: str, prefix: tuple[str, ...], *, timeout: float) -> CommandLink:
    """A host behind ssh; ``prefix`` is the client up to the destination (``ssh.ssh_command``).

    Raises:
        QCompileError: DEVICE_LOST with ssh's own words when it does not connect.
    """
    link = CommandLink(spec, prefix, "/tmp", is_ssh=True)
    mark = secrets.token_hex(8)
    out, _ = link.execute(f"echo; echo {mark}${{TMPDIR:-/tmp}}", timeout=timeout)
    lines = out.decode(errors="replace").splitlines()
    base = next((line.removeprefix(mark) for line in lines if line.startswith(mark)), "")
    if not base.startswith("/"):
        raise QCompileError(Code.DEVICE_LOST, f"{spec}: no shell answers there")
    return replace(link, base=base, shared=_shared_folder())


def _shared_folder() -> str:
    """A private folder for ssh's socket; none where its name would not do for one.

    It may be too long, or have letters that ssh gives a meaning.
    """
    folder = tempfile.mkdtemp(prefix="qcompile-")
    if len(folder) < _LONGEST and not set(folder) & set("% $\"'\\"):
        return folder
    Path(folder).rmdir()
    return ""
