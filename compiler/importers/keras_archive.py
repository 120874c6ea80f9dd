"""Looks into a .keras archive before Keras does: what it unpacks to, and what its config names."""

import json
import shutil
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

from qcompile.compiler.importers.keras_2 import mend
from qcompile.compiler.importers.keras_config import check_config
from qcompile.core.errors import Code, QCompileError

CONFIG: Final = "config.json"
WEIGHTS: Final = ("model.weights.h5", "model.weights.npz")
LARGEST_CONFIG: Final = 1 << 28
"""Bytes: a network of thousands of layers has a few MB."""
FREE_SIZE: Final = 1 << 28
LARGEST_RATIO: Final = 100
"""Beyond ``FREE_SIZE`` bytes a member may have this many bytes for each stored one. Keras stores
without compression; floats that are compressed afterwards shrink by some tens of percent."""


def check_archive(path: Path, *, trust: bool) -> None:
    """Refuse an archive that is none, unpacks to more than it can hold, or elsewhere, or runs code.

    Args:
        path: a file.
        trust: whether code in it may run.

    Raises:
        QCompileError: NOT_A_MODEL, MODEL_TRUNCATED, MODEL_INVALID, UNTRUSTED_MODEL,
            MODEL_UNREADABLE.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if not start.startswith(b"PK"):
            raise _not_keras(path, start)
        with zipfile.ZipFile(path) as archive:
            names = _check_members(archive, path)
            if CONFIG not in names or not names & set(WEIGHTS):
                raise QCompileError(
                    Code.NOT_A_MODEL,
                    f"{path} is a zip archive without {CONFIG} or weights, not a Keras model",
                )
            config = read_config(_read(archive, CONFIG))
            _check_whole(archive, path)
    except zipfile.BadZipFile as error:
        raise QCompileError(
            Code.MODEL_TRUNCATED,
            f"{path} is no whole archive: {error}",
            hint="fetch or save the file again",
        ) from error
    except (OSError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise QCompileError(Code.MODEL_UNREADABLE, f"{path} cannot be read: {error}") from error
    if not trust:
        config.pop("compile_config", None)
        mend(config)  # it names Keras 2's own module of functional models
        check_config(config)


def mended(path: Path, folder: Path) -> Path:
    """An archive of Keras 2 as one that Keras 3 reads; others as they are.

    Args:
        path: checked.
        folder: for a copy, where something has to be changed.
    """
    with zipfile.ZipFile(path) as archive:
        config = read_config(archive.read(CONFIG))
        if not mend(config):
            return path
        copy = folder / "model.keras"
        with zipfile.ZipFile(copy, "w") as changed:
            for member in archive.infolist():
                if member.filename == CONFIG:
                    changed.writestr(CONFIG, json.dumps(config))
                elif not member.is_dir():
                    with archive.open(member) as old, changed.open(member.filename, "w") as new:
                        shutil.copyfileobj(old, new)
    return copy


def read_config(text: bytes | str) -> dict[str, Any]:
    """The JSON of a configuration.

    Raises:
        QCompileError: MODEL_INVALID.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QCompileError(
            Code.MODEL_INVALID, f"its configuration is not JSON: {error!s:.200}"
        ) from error
    if not isinstance(config, dict):
        raise QCompileError(Code.MODEL_INVALID, "its configuration describes no Keras model")
    return config


def _not_keras(path: Path, start: bytes) -> QCompileError:
    if not start:
        return QCompileError(Code.NOT_A_MODEL, f"{path} is empty")
    return QCompileError(Code.NOT_A_MODEL, f"{path} is not a Keras model: it is no zip archive")


def _check_members(archive: zipfile.ZipFile, path: Path) -> set[str]:
    names: set[str] = set()
    for member in archive.infolist():
        name = member.filename
        if name in names:
            raise QCompileError(Code.MODEL_INVALID, f"{path} has {name} twice")
        names.add(name)
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            raise QCompileError(
                Code.UNTRUSTED_MODEL, f"{path} has a member that unpacks elsewhere: {name!r}"
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise QCompileError(Code.UNTRUSTED_MODEL, f"{path} has a link as a member: {name!r}")
        allowed = max(FREE_SIZE, LARGEST_RATIO * member.compress_size)
        if member.file_size > allowed:
            raise QCompileError(
                Code.MODEL_INVALID,
                f"{path} would unpack {member.compress_size} bytes of {name} to "
                f"{member.file_size}; no network does that",
            )
    return names


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > LARGEST_CONFIG:
        raise QCompileError(Code.MODEL_INVALID, f"its {name} has {size} bytes")
    return archive.read(name)


def _check_whole(archive: zipfile.ZipFile, path: Path) -> None:
    """Read every member once, for its checksum."""
    broken = archive.testzip()
    if broken is not None:
        raise QCompileError(
            Code.MODEL_TRUNCATED,
            f"{path} is damaged: {broken} is not what was stored",
            hint="fetch or save the file again",
        )
