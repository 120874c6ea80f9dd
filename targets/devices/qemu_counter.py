"""Makes the plugin with which QEMU counts instructions: compiled here, for the emulator that is
to load it.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from qcompile.core.errors import Code, QCompileError

MARK: Final = 6000
"""A system call that Linux does not have on ARM64; the program that is counted marks with it."""

_VERSIONS: Final = (1, 2, 3, 4, 5)
"""Of QEMU's plugin interface; an emulator takes those from its oldest to its own."""
_SOURCE: Final = "count_instructions.c"
_COMPILERS: Final = ("cc", "gcc", "clang")


def make_counter(emulator: Sequence[str], guest: Path, out: Path) -> None:
    """Compile the plugin, and see that the emulator loads it and that it counts.

    Args:
        emulator: the command line that starts it, up to the name of a program.
        guest: a program to try it on: an emulated Python.
        out: the plugin.

    Raises:
        QCompileError: DEVICE_UNFIT with what is missing: the option -plugin, a C compiler, a
            version of the interface that both sides know.
    """
    if not takes_plugins(emulator):
        raise _unfit(
            "this qemu-aarch64 was built without -plugin",
            "Debian bookworm's package qemu-user has it: qcompile device prepare --fetch-emulator "
            "--suite bookworm",
        )
    compiler = os.environ.get("CC") or next(filter(shutil.which, _COMPILERS), None)
    if compiler is None:
        raise _unfit("there is no C compiler for the plugin that counts", "apt-get install gcc")
    refused = ""
    for version in _VERSIONS:
        _compile(compiler, version, out)
        refused = _tried(emulator, guest, out)
        if not refused:
            return
    out.unlink()
    raise _unfit(f"qemu-aarch64 does not count with the plugin: {refused}", None)


def takes_plugins(emulator: Sequence[str]) -> bool:
    """Whether the emulator has the option ``-plugin``."""
    done = subprocess.run(
        [*emulator, "-h"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return "-plugin" in done.stdout


def plugin_options(plugin: Path, counts: Path) -> list[str]:
    """Options of the emulator with which each mark adds a line to the file ``counts``."""
    of, to = (str(path).replace(",", ",,") for path in (plugin, counts))
    return ["-plugin", f"{of},mark={MARK},out={to}"]


def read_counts(counts: Path) -> list[int]:
    """How many instructions had been executed at each mark so far."""
    return [int(line) for line in counts.read_text().split()] if counts.is_file() else []


def _compile(compiler: str, version: int, out: Path) -> None:
    source = files(__package__).joinpath(_SOURCE).read_bytes()
    options = ["-std=gnu99", "-O2", "-shared", "-fPIC", "-fvisibility=hidden"]
    command = [compiler, *options, f"-DAPI_VERSION={version}", "-x", "c", "-", "-o", str(out)]
    try:
        done = subprocess.run(command, input=source, capture_output=True, check=False)
    except OSError as error:
        raise _unfit(f"the C compiler {compiler} does not run: {error}", "set CC") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it does not say why"]
        raise _unfit(f"the C compiler {compiler} refused the plugin: {said[0]}", "set CC")


def _tried(emulator: Sequence[str], guest: Path, plugin: Path) -> str:
    """Why the plugin does not count; empty where it does."""
    code = f"import ctypes; c = ctypes.CDLL(None).syscall; c({MARK}); c({MARK})"
    with tempfile.TemporaryDirectory() as scratch:
        counts = Path(scratch) / "counts"
        done = subprocess.run(
            [*emulator, *plugin_options(plugin, counts), str(guest), "-I", "-S", "-B", "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode == 0 and len(read_counts(counts)) == 2:
            return ""
    said = done.stderr.strip().splitlines()
    return said[-1] if said else f"exit code {done.returncode}"


def _unfit(message: str, hint: str | None) -> QCompileError:
    return QCompileError(Code.DEVICE_UNFIT, message, hint=hint)
