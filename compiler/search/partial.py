"""What a long search has done so far, kept beside the output so that it can be taken up again."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from qcompile.core.executor import Feeds

SUFFIX: Final = ".partial"
"""Of the folder; it is gone when a build ends well."""

_KEY: Final = "key.txt"


class Partial:
    """Results by number, in a folder of their own; those of another build are thrown away.

    Args:
        folder: does not have to exist; None keeps nothing.
        key: says what the results hang on: model, options, data.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self._folder, self._key = folder, key
        self.resumed = 0
        """Results that an earlier run had found."""
        if folder is not None and folder.is_dir() and _read(folder / _KEY) != key:
            shutil.rmtree(folder, ignore_errors=True)

    def get(self, index: int) -> dict[str, np.ndarray] | None:
        """An earlier result; None where there is none, or it was cut short."""
        if self._folder is None:
            return None
        try:
            with open(self._path(index), "rb") as file:
                stored = np.load(file, allow_pickle=False)
                found = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        self.resumed += 1
        return found

    def put(self, index: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a result. A disk that is full costs the resume, not the build."""
        if self._folder is None:
            return
        temporary = self._path(index).with_suffix(".tmp")
        try:
            self._folder.mkdir(exist_ok=True)
            (self._folder / _KEY).write_text(self._key)
            with open(temporary, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            os.replace(temporary, self._path(index))
        except OSError:
            self._folder = None

    def clear(self) -> None:
        """Remove everything."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, index: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{index:05d}.npz"


def key_of(fingerprint: str, options: Sequence[object], feeds: Sequence[Feeds]) -> str:
    """What results hang on, as text: the same for the same model, options and samples."""
    digest = hashlib.sha256(repr((fingerprint, *options)).encode())
    for feed in feeds:
        for name, array in sorted(feed.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
