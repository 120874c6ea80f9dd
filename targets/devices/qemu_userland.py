"""The emulated ARM64 machine as it lies in the cache: an emulator, a root folder, runtimes."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.qemu_counter import plugin_options

VARIABLE: Final = "QCOMPILE_CACHE"
"""Names the cache folder; else it is ``qcompile`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
NAME: Final = "arm64"
MANIFEST: Final = "manifest.json"
VERSION: Final = 1
"""Of what prepare makes; raise it when that changes."""
PREPARE: Final = "qcompile device prepare"


@dataclass(frozen=True)
class Userland:
    """A folder that ``prepare`` made.

    ======== =========================================================
    sysroot  what programs see as /, where it has the file
    site     the runtimes
    qemu     an emulator and its libraries, unless the machine has one
    count.so the plugin that counts instructions, unless there is none
    ======== =========================================================
    """

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def runtimes(self) -> Mapping[str, str]:
        """Distribution -> version."""
        runtimes: Mapping[str, str] = self.manifest["runtimes"]
        return runtimes

    @property
    def emulator(self) -> list[str]:
        """The command line that starts the emulator: with its own libraries, or this machine's."""
        return emulator_command(self.folder, self.manifest["emulator"]["path"])

    @property
    def python(self) -> Path:
        """The ARM64 Python."""
        return self.folder / "sysroot" / "usr" / "bin" / "python3"

    @property
    def counter(self) -> Path:
        """The plugin.

        Raises:
            QCompileError: DEVICE_UNFIT with the reason why there is none.
        """
        reason = self.manifest["counter"]["reason"]
        if reason:
            raise QCompileError(
                Code.DEVICE_UNFIT,
                f"instructions cannot be counted: {reason}",
                hint=self.manifest["counter"]["hint"],
            )
        return self.folder / "count.so"

    def command(self, cpu: str, arguments: Sequence[str], counts: Path | None = None) -> list[str]:
        """The command line of an emulated Python.

        It sees the runtimes, none of the user's packages and variables, and writes no byte code.

        Args:
            cpu: as ``chosen_cpu`` gives it.
            arguments: of Python.
            counts: the file that marks are counted into.
        """
        guest = {
            "PYTHONPATH": self.folder / "site",
            "PYTHONHASHSEED": 0,  # or the counts of two processes differ
            "PYTHONNOUSERSITE": 1,
            "PYTHONDONTWRITEBYTECODE": 1,
        }
        plugin = plugin_options(self.counter, counts) if counts else []
        return [
            *("/usr/bin/env", "-i", *(f"{key}={value}" for key, value in guest.items())),
            *(*self.emulator, "-cpu", cpu, "-L", str(self.folder / "sysroot"), *plugin),
            *(str(self.python), *arguments),
        ]


def emulator_command(folder: Path, path: str) -> list[str]:
    """How to start an emulator: ``path`` of this machine's own, or empty for the one in ``qemu``.

    The latter starts through the dynamic loader of its own release, unless it is linked statically:
    so it needs no library of this machine and no variable that the emulated program would inherit.
    """
    if path:
        return [path]
    usr = folder / "qemu" / "usr"
    program = str(usr / "bin" / "qemu-aarch64")
    loader = next(usr.glob("lib/*-linux-gnu/ld-linux*.so.*"), None)
    return [str(loader), "--library-path", str(loader.parent), program] if loader else [program]


def cache_folder() -> Path:
    """Where qcompile keeps what it can make again."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "qcompile"


def find_userland(cache: Path | None = None) -> Userland | None:
    """What is prepared, if it is whole and of this version."""
    folder = (cache or cache_folder()) / NAME
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        return None
    found = Userland(folder, manifest)
    whole = found.python.exists() and Path(found.emulator[-1]).exists()
    return found if whole else None


def userland(cache: Path | None = None) -> Userland:
    """What is prepared.

    Raises:
        QCompileError: DEVICE_NOT_PREPARED with the command that prepares.
    """
    found = find_userland(cache)
    if found is None:
        raise QCompileError(
            Code.DEVICE_NOT_PREPARED,
            f"no emulated ARM64 machine in {(cache or cache_folder()) / NAME}",
            hint=f"{PREPARE} makes one in about a minute, from Debian's packages and the "
            "runtimes' wheels; it needs no root",
        )
    return found
