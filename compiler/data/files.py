"""Arrays in .npy and .npz files, read a few rows at a time.

Rows are read from the file itself, not through a memory map, so that reading many samples does not
grow the process. A compressed member of an .npz has no rows to jump to: it is unpacked once, on
first use, into a temporary file that goes when the array does.
"""

import math
import shutil
import threading
import weakref
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.core.scratch import is_full, new_scratch_folder, no_room

_DAMAGE: Final = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading a file that is not what its name says ends in."""


class LazyArray(Protocol):
    """An array whose shape is known and whose contents are read when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Its element type."""

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Elements ``start..stop-1`` of the first dimension."""

    def whole(self) -> np.ndarray:
        """All of it."""


@dataclass(frozen=True)
class Held:
    """An array that is in memory already."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Its element type."""
        return self.array.dtype

    def rows(self, start: int, stop: int) -> np.ndarray:
        """A view of some rows."""
        return self.array[start:stop]

    def whole(self) -> np.ndarray:
        """The array itself."""
        return self.array


@dataclass(frozen=True)
class Stored:
    """An array that lies uncompressed in a file, from byte ``offset`` on."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    offset: int
    fortran: bool = False
    owner: object = None
    """What must live as long as this does: the Scratch that the file lies in."""

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Some rows, read now."""
        if self.fortran:
            mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, "F")
            return np.array(mapped[start:stop])
        row = math.prod(self.shape[1:])
        flat = self._read(self.offset + start * row * self.dtype.itemsize, (stop - start) * row)
        return flat.reshape(stop - start, *self.shape[1:])

    def whole(self) -> np.ndarray:
        """All of it, read now."""
        flat = self._read(self.offset, math.prod(self.shape))
        return flat.reshape(self.shape, order="F" if self.fortran else "C")

    def _read(self, offset: int, count: int) -> np.ndarray:
        try:
            flat = np.fromfile(self.path, self.dtype, count, offset=offset)
        except OSError as error:
            raise unreadable(str(self.path), error.strerror or str(error)) from error
        if flat.size != count:
            raise unreadable(str(self.path), "the file is shorter than its header says")
        return flat


class Packed:
    """A compressed member of an .npz. ``scratch`` is where it may be unpacked."""

    def __init__(self, path: Path, member: str, header: "Stored", scratch: "Scratch") -> None:
        self.shape, self.dtype = header.shape, header.dtype
        self._path, self._member, self._header = path, member, header
        self._scratch = scratch
        self._stored: Stored | None = None
        self._lock = threading.Lock()

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Some rows, from the unpacked file."""
        with self._lock:
            if self._stored is None:
                self._stored = self._unpack()
        return self._stored.rows(start, stop)

    def whole(self) -> np.ndarray:
        """All of it, from the .npz."""
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as member:
                return np.asarray(np.lib.format.read_array(member, allow_pickle=False))
        except _DAMAGE as error:
            raise unreadable(str(self._path), str(error)) from error

    def _unpack(self) -> Stored:
        target = self._scratch.new_file()
        try:
            with (
                zipfile.ZipFile(self._path) as archive,
                archive.open(self._member) as member,
                target.open("wb") as out,
            ):
                shutil.copyfileobj(member, out, 1 << 20)
        except _DAMAGE as error:
            if isinstance(error, OSError) and is_full(error):
                raise no_room(error) from error
            raise unreadable(str(self._path), f"cannot be unpacked: {error}") from error
        head = self._header
        return Stored(target, head.shape, head.dtype, head.offset, head.fortran)


class Scratch:
    """A temporary folder that is made on first use and removed with its owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._count = 0

    def new_file(self) -> Path:
        """A path in the folder that nobody else was given."""
        with self._lock:
            if self._folder is None:
                self._folder = new_scratch_folder()
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            self._count += 1
            return self._folder / f"{self._count}.bin"


def open_npy(path: Path) -> Stored:
    """Read the header of an .npy file.

    Raises:
        QCompileError: DATA_UNREADABLE, also for pickled objects.
    """
    try:
        with path.open("rb") as file:
            return _header(file, path)
    except _DAMAGE as error:
        raise unreadable(str(path), str(error)) from error


def open_npz(path: Path, scratch: Scratch) -> dict[str, LazyArray]:
    """Read the headers of the arrays of an .npz file.

    Raises:
        QCompileError: DATA_UNREADABLE.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
            return {
                info.filename.removesuffix(".npy"): _member(archive, info, raw, path, scratch)
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
    except _DAMAGE as error:
        raise unreadable(str(path), str(error)) from error


def as_array(value: object, where: str) -> np.ndarray:
    """An array of what a user's code gave.

    Raises:
        QCompileError: DATA_TYPE when it is none.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise QCompileError(Code.DATA_TYPE, f"{where} is not an array: {error}") from error
    if array.dtype.kind not in "fiub":
        kind = type(value).__name__
        raise QCompileError(Code.DATA_TYPE, f"{where} is {kind} of {array.dtype}, not numbers")
    return array


def unreadable(where: str, why: str) -> QCompileError:
    """The error for a file that cannot be read as what its name says."""
    return QCompileError(Code.DATA_UNREADABLE, f"{where} cannot be read: {why}")


def shape_text(shape: Sequence[object]) -> str:
    """A shape as it stands in messages: ``[1, 3, 224, 224]``, unknown sizes as ``?``."""
    return "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, raw: IO[bytes], path: Path, scratch: Scratch
) -> LazyArray:
    with archive.open(info) as member:
        header = _header(member, path)
    if info.compress_type != zipfile.ZIP_STORED:
        return Packed(path, info.filename, header, scratch)
    # The local header repeats the name and may carry other extra fields than the directory does.
    raw.seek(info.header_offset + 26)
    lengths = raw.read(4)
    skip = 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    start = info.header_offset + skip + header.offset
    return Stored(path, header.shape, header.dtype, start, header.fortran)


def _header(file: IO[bytes], path: Path) -> Stored:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"format version {version} is not supported")
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which are not loaded")
    return Stored(path, shape, dtype, file.tell(), fortran and len(shape) > 1)
