"""A device's POSIX shell as a place to run programs in: private folder, checked copies, exit codes.

What carries scripts and bytes there is a ``Link`` (adb, SSH, this machine); a ``Shell`` adds what
none of them gives: the exit code where the connection loses it, time-outs that end the program
there too, and a folder that goes away with the connection.
"""

import hashlib
import math
import re
import secrets
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from qcompile.core.closing import Closing
from qcompile.core.errors import Code, QCompileError

_NAME: Final = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HASHES: Final = {"sha256sum": "sha256", "sha1sum": "sha1", "md5sum": "md5"}
"""Programs that a device may have -> the algorithm, the best first."""
_WANTED: Final = (*_HASHES, "setsid", "taskset", "getprop")
_PREFIX: Final = "qcompile-device-"
_STALE_MINUTES: Final = 12 * 60
_GRACE: Final = 5.0
"""Seconds in which the device has to say that it ended a program at its deadline."""
_SLOWEST: Final = 500_000
"""Bytes a second that a copy is given; a slower connection counts as lost."""


@dataclass(frozen=True)
class Completed:
    """What a program left behind."""

    code: int
    """Exit code; 128 and more: ended by that signal, as POSIX shells say it."""
    stdout: str
    stderr: str
    """Empty where the connection cannot tell it from stdout."""

    @property
    def text(self) -> str:
        """All that it printed."""
        return self.stdout + self.stderr


class Link(Protocol):
    """Carries scripts and bytes to a device; every method raises DEVICE_LOST."""

    @property
    def spec(self) -> str:
        """What the user called the device."""

    @property
    def base(self) -> str:
        """Folder there in which the private one is made."""

    def execute(self, script: str, *, timeout: float) -> tuple[bytes, bytes]:
        """Run a script in the device's ``sh``; stdout and stderr, which may arrive mixed.

        The script's stdin stays open as long as the connection stands.
        """

    def send(self, data: bytes, path: str, *, timeout: float) -> None:
        """Write a file there."""

    def fetch(self, path: str, *, timeout: float) -> bytes:
        """Read a file there."""

    def command(self, script: str) -> tuple[str, ...]:
        """A command line whose stdin and stdout are those of a script there, byte for byte.

        Raises:
            QCompileError: DEVICE_UNFIT where there can be none.
        """

    def start(self, script: str, mark: bytes, *, timeout: float) -> "subprocess.Popen[bytes]":
        """A script that runs there until its stdin, a pipe, is closed; returns at its ``mark``."""

    def close(self) -> None:
        """End the connection; never raises."""


class Shell(Closing):
    """Programs and files in a private folder of a device.

    The folder goes with the connection: a second one, on which nothing is said, holds a script
    there that removes it when its stdin ends or, as adbd does it, HUP comes.

    Names are letters, digits, ``.``, ``_`` and ``-``, with ``/`` between folders; everything else
    that reaches the device's shell is quoted. After DEVICE_LOST nothing is tried any more.
    """

    def __init__(self, link: Link, *, timeout: float = 30.0) -> None:
        """Make the folder, and remove those of ours that a cut connection left half a day ago.

        Args:
            link: how the device is reached; closed with the shell.
            timeout: seconds that a short command may take.

        Raises:
            QCompileError: DEVICE_LOST; DEVICE_UNFIT where no folder can be made.
        """
        self.link = link
        self.timeout = timeout
        self.folder = f"{link.base}/{_PREFIX}{secrets.token_hex(8)}"
        self._lost = False
        base, folder = shlex.quote(link.base), shlex.quote(self.folder)
        mark = secrets.token_hex(8)
        try:
            self._keeper = link.start(
                f"mkdir -m 700 {folder}; echo; echo {mark}\n"
                "exec 3<&0; trap 'kill $p' HUP; cat <&3 >/dev/null & p=$!; wait $p\n"
                f"rm -rf {folder}",
                mark.encode(),
                timeout=timeout,
            )
        except BaseException:
            link.close()
            raise
        try:
            made = self._marked(
                f"find {base} -maxdepth 1 -name '{_PREFIX}*' -mmin +{_STALE_MINUTES}"
                f" -exec rm -rf {{}} + 2>/dev/null; for t in {' '.join(_WANTED)}; do"
                f" command -v $t; done; cd {folder}; c=$?",
                timeout,
            )
        except BaseException:
            self.close()
            raise
        if made.code != 0:
            self.close()
            raise QCompileError(
                Code.DEVICE_UNFIT, f"{link.spec}: no folder can be made in {link.base}"
            )
        self.tools = frozenset(line.rpartition("/")[2] for line in made.stdout.splitlines())

    @property
    def spec(self) -> str:
        """What the user called the device."""
        return self.link.spec

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run a program in the folder, without input.

        Args:
            argv: its command line; quoted here.
            timeout: seconds; the device ends it by itself then, and when the connection is cut.
            env: variables to set for it.

        Raises:
            QCompileError: DEVICE_LOST when the connection is cut or silent past the time-out.
        """
        seconds = self.timeout if timeout is None else timeout
        for name in env or {}:
            _check(_VARIABLE, name)
        sets = [f"{name}={value}" for name, value in (env or {}).items()]
        words = [*(["env", *sets] if sets else []), *argv]
        if "setsid" in self.tools:  # its own process group, so that its children end with it
            words = ["setsid", *words]
        return self._marked(self._guarded(words, math.ceil(seconds)), seconds + _GRACE)

    def push(self, data: bytes, name: str, *, executable: bool = False) -> str:
        """Copy a file into the folder and check its hash there; returns its path.

        Raises:
            QCompileError: DEVICE_LOST, also when it arrived damaged twice.
        """
        path = self.path(name)
        if "/" in name:
            self.run(["mkdir", "-p", path.rpartition("/")[0]])
        for _ in range(2):
            self._alive()
            try:
                self.link.send(data, path, timeout=self.timeout + len(data) / _SLOWEST)
            except QCompileError:
                self._lost = True
                raise
            if self._digest(path) == self._expected(data):
                if executable:
                    self.run(["chmod", "700", path])
                return path
        raise QCompileError(Code.DEVICE_LOST, f"{self.spec}: {name} arrives damaged")

    def pull(self, name: str) -> bytes:
        """Read a file of the folder, its hash checked.

        Raises:
            QCompileError: DEVICE_LOST, also when it arrived damaged; RUNTIME_FAILED where there is
                no such file.
        """
        path = self.path(name)
        if self.run(["test", "-f", path]).code != 0:
            raise QCompileError(Code.RUNTIME_FAILED, f"{self.spec}: {name} was not written")
        expected = self._digest(path)
        data = self.link.fetch(path, timeout=self.timeout + 60)
        if self._expected(data) != expected:
            raise QCompileError(Code.DEVICE_LOST, f"{self.spec}: {name} arrives damaged")
        return data

    def remove(self, *names: str) -> None:
        """Remove files of the folder; one that is not there is no error."""
        self.run(["rm", "-f", *map(self.path, names)])

    def path(self, name: str) -> str:
        """Where a file of the folder is."""
        return f"{self.folder}/{_check(_NAME, name)}"

    def close(self) -> None:
        """Remove the folder and end the connection; never raises."""
        try:
            if not self._lost:
                self._marked(f"rm -rf {shlex.quote(self.folder)}; c=$?", self.timeout)
        except QCompileError:
            self._lost = True
        finally:
            self._end_keeper()
            self.link.close()

    def _end_keeper(self) -> None:
        """Close what the folder lives as long as; the device removes it, if it is still there."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        if self._keeper.stdout is not None:
            self._keeper.stdout.close()
        try:
            self._keeper.wait(0.5)  # an old adbd does not learn of it before the client ends
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()

    # --- scripts -------------------------------------------------------------------------------

    def _guarded(self, words: Sequence[str], seconds: int) -> str:
        """A script that runs a command, ends it at its deadline and when stdin ends or HUP comes.

        adbd sends HUP to the shell when its connection breaks; sshd only closes stdin. Watchers
        must not outlive the script, whose output Android's shell keeps open in them; it would put
        off a signal that it can catch.
        """
        folder, command = shlex.quote(self.folder), shlex.join(words)
        end = "kill -9 -$p || kill -9 $p"
        return (
            f"cd {folder} && exec 3<&0 && {{ {command} </dev/null 3<&- & p=$!\n"
            f"trap '{{ {end}; kill -9 $a $b; }} >/dev/null 2>&1; exit 129' HUP\n"
            "{ cat <&3; kill -HUP $$; } >/dev/null 2>&1 & a=$!\n"
            f"{{ n={seconds}; while [ $n -gt 0 ]; do sleep 1; n=$((n-1)); done; {end}; }}"
            " 3<&- >/dev/null 2>&1 & b=$!\n"
            "wait $p; c=$?; { kill -9 $a $b; wait $a $b; } 2>/dev/null; }"
        )

    def _marked(self, script: str, timeout: float) -> Completed:
        """Run a script that leaves its exit code in ``$c``, which is printed behind its output."""
        self._alive()
        mark = f"mark-{secrets.token_hex(8)}"
        whole = f"c=97; echo; echo {mark}\n{script}\necho; echo {mark}:$c"
        try:
            out, err = self.link.execute(whole, timeout=timeout)
        except QCompileError:
            self._lost = True
            raise
        # A carriage return comes of old versions of adbd, which run everything in a terminal.
        stdout, stderr = (
            part.decode(errors="replace").replace("\r\n", "\n") for part in (out, err)
        )
        _, _, own = stdout.partition(f"\n{mark}\n")  # behind what a shell prints when it starts
        body, found, rest = ("\n" + own).rpartition(f"\n{mark}:")
        code = rest.split("\n", 1)[0]
        if not found or not code.isdigit():
            self._lost = True
            said = (stderr or stdout).strip().splitlines()
            raise QCompileError(
                Code.DEVICE_LOST, f"{self.spec}: the connection was cut{_reason(said)}"
            )
        return Completed(int(code), body[1:], stderr)

    def _alive(self) -> None:
        if self._lost:
            raise QCompileError(Code.DEVICE_LOST, f"{self.spec}: the connection was lost before")

    def _digest(self, path: str) -> str:
        """Digest of a file there, by the best program that the device has; its size without one."""
        tool = next((tool for tool in _HASHES if tool in self.tools), None)
        if tool is None:
            return self.run(["sh", "-c", 'wc -c < "$1"', "sh", path]).stdout.strip()
        return self.run([tool, path]).stdout.split(" ", 1)[0].strip()

    def _expected(self, data: bytes) -> str:
        algorithm = next((name for tool, name in _HASHES.items() if tool in self.tools), None)
        return str(len(data)) if algorithm is None else hashlib.new(algorithm, data).hexdigest()


def _check(pattern: re.Pattern[str], name: str) -> str:
    if not pattern.fullmatch(name):
        raise QCompileError(Code.BAD_OPTION, f"{name!r} cannot be a name on a device")
    return name


def _reason(lines: Sequence[str]) -> str:
    return f" ({lines[-1].strip()})" if lines else ""
