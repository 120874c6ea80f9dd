"""Brings a runner to a device, with the libraries beside it, and finds out which one it is."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.runners.runner import Runner
from qcompile.targets.devices.runners.table import RUNNERS, runner_of
from qcompile.targets.devices.shell import Completed, Shell

CANNOT_START: Final = (126, 127)
"""Exit codes of a shell that could not start a program."""


@dataclass(frozen=True)
class Sent:
    """A program on a device."""

    name: str
    """Of its file here."""
    path: str
    """There."""
    environment: Mapping[str, str]
    """That it needs."""
    help_text: str
    """All that it prints with ``--help``."""


@dataclass(frozen=True)
class Installed(Sent):
    """A runner on a device."""

    runner: Runner


def send(shell: Shell, runner: Path) -> Sent:
    """Copy a program and its libraries to a device and ask it for help.

    Raises:
        QCompileError: BAD_OPTION when it cannot be read; DEVICE_UNFIT when it does not run there;
            DEVICE_LOST.
    """
    try:
        data = runner.read_bytes()
        beside = sorted(path for path in runner.resolve().parent.iterdir() if path.is_file())
    except OSError as error:
        raise QCompileError(
            Code.BAD_OPTION, f"the runner {runner} cannot be read: {error.strerror}"
        ) from error
    patterns = [pattern for known in RUNNERS for pattern in known.libraries]
    libraries = [p for p in beside if any(fnmatch.fnmatch(p.name, pattern) for pattern in patterns)]
    for library in libraries:
        shell.push(library.read_bytes(), library.name)
    environment = {"LD_LIBRARY_PATH": shell.folder} if libraries else {}
    path = shell.push(data, "runner", executable=True)
    done = shell.run([path, "--help"], env=environment)
    if done.code in CANNOT_START:
        raise cannot_start(shell.spec, runner.name, done)
    return Sent(runner.name, path, environment, done.text)


def identify(sent: Sent) -> Installed:
    """Which runner a program is.

    Raises:
        QCompileError: DEVICE_UNFIT when it is none that is known.
    """
    runner = runner_of(sent.name, sent.help_text)
    return Installed(sent.name, sent.path, sent.environment, sent.help_text, runner)


def cannot_start(spec: str, name: str, done: Completed) -> QCompileError:
    """The error for a program that a device does not start."""
    lines = done.text.strip().splitlines()
    return QCompileError(
        Code.DEVICE_UNFIT,
        f"{spec} cannot run {name}: {lines[-1] if lines else f'exit code {done.code}'}",
        hint="build it for the processor and the system of the device, its libraries beside it",
    )
