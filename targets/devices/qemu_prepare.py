"""Makes the emulated ARM64 machine in the cache, as an ordinary user: all of it, or nothing.

It is made in a folder beside its place and renamed when it works. The recipe: an ARM64 Python with
what it needs from Debian, the runtimes' wheels in the versions of this machine, an emulator, and
one file that keeps ONNX Runtime's reader of /proc/cpuinfo from seeing the x86 one (QEMU 7.2 shows
it, and that ends in a crash; newer ones write their own).
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.qemu_apt import (
    Sources,
    chosen_sources,
    fetch,
    host_architecture,
)
from qcompile.targets.devices.qemu_counter import make_counter, takes_plugins
from qcompile.targets.devices.qemu_deb import inside, one_usr, unpack
from qcompile.targets.devices.qemu_userland import (
    MANIFEST,
    NAME,
    VERSION,
    Userland,
    cache_folder,
    emulator_command,
    find_userland,
)
from qcompile.targets.devices.qemu_wheels import host_runtimes, install

_GUEST: Final = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libuuid1")
_KEPT: Final = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/bin")
"""Folders of the packages; /etc, /tmp and the like must be this machine's."""
_CPUINFO: Final = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd03
CPU revision\t: 4

"""
"""An ARM-looking file; features are taken from the auxiliary vector, which the CPU chosen sets."""
_PARTIAL: Final = f"{NAME}.partial-"
_OLD: Final = f"{NAME}.old"
_MODULES: Final = {"numpy": "numpy", "onnxruntime": "onnxruntime"} | {
    "ai-edge-litert": "ai_edge_litert.interpreter"
}
_TRIED_ON: Final = "cortex-a53"
_PATIENCE_S: Final = 600


@dataclass(frozen=True)
class Wishes:
    """What a user may choose of the machine."""

    suite: str | None = None
    """Debian release; None: this machine's own."""
    mirror: str | None = None
    """Archive; None: this machine's own."""
    fetch_emulator: bool = False
    """Fetch an emulator even where this machine has one."""
    runtimes: Mapping[str, str] | None = None
    """Distribution -> version; None: those installed here, so that results compare."""


def prepare(
    wishes: Wishes = Wishes(),
    *,
    force: bool = False,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Userland, bool]:
    """Make the machine, unless what is there is what is wished.

    Args:
        wishes: what to make.
        force: make it anew.
        cache: the cache folder; None for ``cache_folder()``.
        say: told what is being done.

    Returns:
        The machine, and whether it was made now.

    Raises:
        QCompileError: DEVICE_UNFIT where this system cannot make one, DEVICE_NOT_PREPARED with what
            apt, pip or the emulator said, OUTPUT_UNWRITABLE. What was there before stays.
    """
    cache = cache or cache_folder()
    with _alone(cache):
        there = find_userland(cache)
        runtimes = dict(host_runtimes() if wishes.runtimes is None else wishes.runtimes)
        wish = {**asdict(wishes), "runtimes": runtimes}
        if there and there.manifest["wishes"] == wish and not force:
            return there, False
        sources = chosen_sources(wishes.suite, wishes.mirror)
        with _beside(cache) as folder:
            try:
                manifest = _make(folder, sources, runtimes, wishes.fetch_emulator, say)
            except subprocess.TimeoutExpired as error:
                raise QCompileError(
                    Code.DEVICE_NOT_PREPARED,
                    f"the emulator did not end within {error.timeout:.0f} seconds",
                ) from error
            manifest["wishes"] = wish
            text = json.dumps(manifest, indent=2, sort_keys=True)
            (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
            _put(folder, cache)
        made = find_userland(cache)
        assert made is not None
        return made, True


def _make(
    folder: Path,
    sources: Sources,
    runtimes: Mapping[str, str],
    fetch_emulator: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    say(f"packages of Debian {sources.suite} for ARM64")
    hashes = _root(folder / "sysroot", _GUEST, "arm64", sources, "python3*")
    python, glibc = _versions(folder / "sysroot", hashes)
    proc = folder / "sysroot" / "proc"
    proc.mkdir()
    (proc / "cpuinfo").write_text(_CPUINFO, encoding="utf-8")
    own = "" if fetch_emulator else shutil.which("qemu-aarch64") or ""
    if own and not takes_plugins([own]):
        own = ""
    if not own:
        say("an emulator")
        own_kind = host_architecture()
        hashes |= _root(folder / "qemu", ("qemu-user",), own_kind, sources, "qemu-aarch64")
    say(f"wheels: {', '.join(f'{name} {version}' for name, version in runtimes.items())}")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wheels = install(runtimes, python, glibc, folder / "site", Path(scratch))
        hashes |= _hashes(wheels)
    emulator = emulator_command(folder, own)
    manifest: dict[str, Any] = {
        "version": VERSION,
        "suite": sources.suite,
        "archives": [" ".join(archive) for archive in sources.archives],
        "python": python,
        "glibc": f"2.{glibc}",
        "emulator": {"path": own, "version": _emulator_version(emulator)},
        "runtimes": dict(runtimes),
        "sha256": hashes,
        "counter": {"reason": "", "hint": None},
    }
    say("the plugin that counts instructions")
    guest = folder / "sysroot" / "usr" / "bin" / "python3"
    try:
        make_counter([*emulator, "-L", str(folder / "sysroot")], guest, folder / "count.so")
    except QCompileError as error:
        manifest["counter"] = {"reason": error.message, "hint": error.hint}
        say(f"instructions will not be counted: {error.message}")
    say("a first run")
    _first_run(Userland(folder, manifest))
    return manifest


def _root(
    root: Path, packages: tuple[str, ...], architecture: str, sources: Sources, programs: str
) -> dict[str, str]:
    """Unpack packages into a new folder, of their programs those of a pattern; their hashes."""
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        fetched = fetch(packages, architecture, sources, Path(scratch) / "apt")
        whole = Path(scratch) / "root"
        for package in fetched:
            unpack(package, whole)
        (root / "usr").mkdir(parents=True)
        for kept in _KEPT:
            if os.path.lexists(whole / kept):
                (whole / kept).rename(root / kept)
        hashes = _hashes(fetched)
    wanted = set((root / "usr" / "bin").glob(programs))
    for program in (root / "usr" / "bin").iterdir():
        if program not in wanted:
            program.unlink()
    one_usr(root)
    inside(root)
    return hashes


def _versions(root: Path, packages: Mapping[str, str]) -> tuple[str, int]:
    """Version of the Python (``3.11``) and minor version of the C library (36)."""
    python = re.fullmatch(r"python(3\.\d+)", os.readlink(root / "usr" / "bin" / "python3"))
    glibc = next(filter(None, (re.match(r"libc6_2\.(\d+)", name) for name in packages)), None)
    if python is None or glibc is None:
        raise QCompileError(
            Code.DEVICE_NOT_PREPARED, "this release's packages of Python or libc6 are not known"
        )
    return python.group(1), int(glibc.group(1))


def _emulator_version(emulator: list[str]) -> str:
    done = subprocess.run(
        [*emulator, "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    found = re.search(r"version (\S+)", done.stdout)
    if found is None:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise QCompileError(
            Code.DEVICE_NOT_PREPARED, f"the emulator {emulator[-1]} does not run: {said}"
        )
    return found.group(1)


def _first_run(machine: Userland) -> None:
    """Import every runtime once: proves that it works, and leaves byte code for later runs.

    Raises:
        QCompileError: DEVICE_NOT_PREPARED with what the emulated Python said.
    """
    modules = [_MODULES[name] for name in machine.runtimes]
    code = f"import sys; sys.dont_write_bytecode = False; import ctypes, {', '.join(modules)}"
    command = machine.command(_TRIED_ON, ["-c", code])
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_PATIENCE_S,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [""])[-1]
        ended = f"exit code {done.returncode}"
        if done.returncode < 0:
            ended = signal.Signals(-done.returncode).name
        raise QCompileError(
            Code.DEVICE_NOT_PREPARED,
            f"the emulated machine cannot import {', '.join(modules)}: {said or ended}",
        )


def _hashes(files: list[Path]) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Hold the cache against a second prepare, which waits and then finds what this one made."""
    try:
        import fcntl
    except ImportError as error:
        raise QCompileError(
            Code.DEVICE_UNFIT, "an emulated ARM64 device is made and run on Linux alone"
        ) from error
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = os.open(cache / f"{NAME}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise QCompileError(
            Code.OUTPUT_UNWRITABLE, f"cannot write the cache {cache}: {error.strerror}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _clean(cache)
        yield
    finally:
        os.close(lock)


def _clean(cache: Path) -> None:
    """Remove what a prepare left that was killed; put back what it was about to replace."""
    if (cache / _OLD).exists() and not (cache / NAME).exists():
        (cache / _OLD).rename(cache / NAME)
    for left in (cache / _OLD, *cache.glob(f"{_PARTIAL}*")):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _beside(cache: Path) -> Iterator[Path]:
    """A folder beside the machine's place, which is gone when the context ends."""
    folder = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(folder: Path, cache: Path) -> None:
    """Rename what was made to its place."""
    folder.chmod(0o755)
    if (cache / NAME).exists():
        (cache / NAME).rename(cache / _OLD)
    folder.rename(cache / NAME)
    shutil.rmtree(cache / _OLD, ignore_errors=True)
