"""Unpacks Debian packages into a folder that becomes the root of an emulated machine."""

import io
import lzma
import os
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from qcompile.core.errors import Code, QCompileError

_MAGIC: Final = b"!<arch>\n"
_HEADER: Final = 60
"""Bytes before each member of an ar archive; name at 0 (16), size in decimal at 48 (10)."""
_READABLE: Final = (".xz", ".gz", ".bz2", "")
"""Compressions of data.tar that Python 3.11 reads; zstd is not among them."""
_DAMAGE: Final = (tarfile.TarError, OSError, EOFError, lzma.LZMAError, zlib.error)


def unpack(package: Path, root: Path) -> None:
    """Unpack what a .deb installs; ``dpkg-deb`` does it where there is one.

    Raises:
        QCompileError: DEVICE_NOT_PREPARED naming the package and why it cannot be unpacked.
    """
    if shutil.which("dpkg-deb"):
        done = subprocess.run(
            ["dpkg-deb", "-x", str(package), str(root)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise _broken(package, done.stderr.strip())
    else:
        unpack_by_ourselves(package, root)


def unpack_by_ourselves(package: Path, root: Path) -> None:
    """The same without dpkg: a .deb is an ar archive that holds ``data.tar.*``.

    Raises:
        QCompileError: DEVICE_NOT_PREPARED naming the package and why it cannot be unpacked.
    """
    content = package.read_bytes()
    for name, data in _members(content, package):
        if name.startswith("data.tar"):
            if name.removeprefix("data.tar") not in _READABLE:
                raise _broken(package, f"{name} needs dpkg-deb: Python has no such compression")
            try:
                _extract(data, root)
            except _DAMAGE as error:
                said = str(error).splitlines() or [type(error).__name__]
                raise _broken(package, said[0]) from error
            return
    raise _broken(package, "it holds no data.tar")


def _members(content: bytes, package: Path) -> Iterator[tuple[str, bytes]]:
    if not content.startswith(_MAGIC):
        raise _broken(package, "it is no ar archive")
    at = len(_MAGIC)
    while at + _HEADER <= len(content):
        header = content[at : at + _HEADER].decode("ascii", errors="replace")
        at += _HEADER
        if not header[48:58].strip().isdigit():
            raise _broken(package, "it is damaged")
        size = int(header[48:58])
        yield header[:16].strip().rstrip("/"), content[at : at + size]
        at += size + size % 2


def _extract(data: bytes, root: Path) -> None:
    """What stays below ``root``; apt has checked who signed the package."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        if hasattr(tarfile, "tar_filter"):
            archive.extractall(root, filter="tar")
        else:  # Python 3.11.3 and older
            archive.extractall(root)


def one_usr(root: Path) -> None:
    """Merge ``lib`` into ``usr/lib`` as a running Debian has it: packages of bookworm ship both,
    those of trixie leave the link to base-files.
    """
    usr = root / "usr" / "lib"
    usr.mkdir(parents=True, exist_ok=True)
    old = root / "lib"
    if old.is_dir() and not old.is_symlink():
        _merge(old, usr)
        shutil.rmtree(old)
    if not old.is_symlink():
        old.symlink_to("usr/lib")


def _merge(old: Path, new: Path) -> None:
    for entry in sorted(old.iterdir()):
        there = new / entry.name
        if entry.is_dir() and not entry.is_symlink() and there.is_dir():
            _merge(entry, there)
        elif not os.path.lexists(there):
            entry.rename(there)


def inside(root: Path) -> None:
    """Let absolute links lead into ``root``; those that lead nowhere there go."""
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            link = Path(folder) / name
            if not link.is_symlink():
                continue
            aim = os.readlink(link)
            if not aim.startswith("/"):
                continue
            link.unlink()
            if (root / aim[1:]).exists():
                link.symlink_to(os.path.relpath(root / aim[1:], folder))


def _broken(package: Path, why: str) -> QCompileError:
    return QCompileError(
        Code.DEVICE_NOT_PREPARED, f"the package {package.name} cannot be unpacked: {why}"
    )
