"""Which files make up a set: a folder, a list file, and what is taken of them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from qcompile.core.errors import Code, QCompileError

PICTURES: Final = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}
)
ARRAYS: Final = frozenset({".npz", ".npy"})

_SHOWN: Final = 200
"""Characters of a line that an error shows."""
_LABELLED_LINE: Final = re.compile(r"(?P<path>.*[^\s,])[\s,]+(?P<label>\d+)")


@dataclass(frozen=True)
class Listed:
    """One file of a set."""

    path: Path
    name: str
    """Its path below the set's folder, with slashes."""
    label: int | None = None


@dataclass(frozen=True)
class Listing:
    """The files of a set, in the order in which they are read, all of one kind."""

    name: str
    files: tuple[Listed, ...]

    @property
    def suffixes(self) -> frozenset[str]:
        """The endings that occur, in small letters."""
        return frozenset(file.path.suffix.lower() for file in self.files)


def list_folder(folder: Path) -> Listing:
    """The pictures or arrays of a folder, sorted by name.

    Those right in the folder are taken; where there are none, those of all folders below, and
    where at least two folders lie right below, each is a class: the label is its place in their
    sorted order. Hidden files and folders are passed over.

    Raises:
        QCompileError: DATA_EMPTY, or DATA_UNREADABLE when the folder cannot be listed.
    """
    try:
        children = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise QCompileError(
            Code.DATA_UNREADABLE, f"{folder} cannot be listed: {error.strerror}"
        ) from error
    direct = [Listed(path, path.name) for path in children if _is_data(path)]
    if direct:
        return Listing(folder.resolve().name, tuple(direct))
    classes = [path for path in children if path.is_dir() and not path.name.startswith(".")]
    below = [(number, _files_below(path)) for number, path in enumerate(classes)]
    files = tuple(
        Listed(path, path.relative_to(folder).as_posix(), number if len(classes) > 1 else None)
        for number, paths in below
        for path in paths
    )
    if not files:
        raise QCompileError(
            Code.DATA_EMPTY,
            f"{folder} holds no pictures, .npy or .npz files",
            hint=f"pictures are {', '.join(sorted(PICTURES))}",
        )
    return Listing(folder.resolve().name, files)


def list_file(file: Path, root: Path | None = None) -> Listing:
    """The files that a text file names, in its order.

    One path a line, relative to ``root`` (the file's own folder when None); ``#`` starts a comment
    line. A whole number after the path, parted by space, tab or comma, is the label.

    Raises:
        QCompileError: DATA_UNREADABLE, DATA_NOT_FOUND naming the line, DATA_EMPTY.
    """
    base = root if root is not None else file.parent
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise QCompileError(Code.DATA_UNREADABLE, f"{file} cannot be read: {error}") from error
    files = tuple(
        _listed(line.strip(), base, f"{file}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    )
    if not files:
        raise QCompileError(Code.DATA_EMPTY, f"{file} lists no files")
    return Listing(file.name, files)


def select(listing: Listing, include: Sequence[str], exclude: Sequence[str]) -> Listing:
    """The files whose name matches one of ``include`` (when given) and none of ``exclude``.

    A pattern is a shell's (``*``, ``?``, ``[0-9]``), compared with the path below the set's folder
    and with the file's own name.

    Raises:
        QCompileError: DATA_EMPTY when nothing is left.
    """
    if not include and not exclude:
        return listing
    wanted = _matcher(include) if include else lambda _: True
    unwanted = _matcher(exclude)
    files = tuple(file for file in listing.files if wanted(file.name) and not unwanted(file.name))
    if not files:
        raise QCompileError(
            Code.DATA_EMPTY,
            f"none of the {len(listing.files)} files of {listing.name} is selected by "
            f"include {list(include)} and exclude {list(exclude)}",
        )
    return Listing(listing.name, files)


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    def matches(name: str) -> bool:
        short = name.rpartition("/")[2]
        return any(fnmatchcase(name, p) or fnmatchcase(short, p) for p in patterns)

    return matches


def _listed(line: str, base: Path, where: str) -> Listed:
    if _is_file(base / line):
        return Listed(base / line, Path(line).as_posix())
    labelled = _LABELLED_LINE.fullmatch(line)
    if labelled is not None and _is_file(base / labelled["path"]):
        name = labelled["path"]
        return Listed(base / name, Path(name).as_posix(), int(labelled["label"]))
    raise QCompileError(
        Code.DATA_NOT_FOUND,
        f"{where}: there is no file {base / line[:_SHOWN]}{'...' if line[_SHOWN:] else ''}",
        hint="paths are relative to the list's folder, or to `root` in [data]",
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long: the line is something else
        return False


def _is_data(path: Path) -> bool:
    known = path.suffix.lower() in PICTURES or path.suffix.lower() in ARRAYS
    return known and not path.name.startswith(".") and path.is_file()


def _files_below(folder: Path) -> list[Path]:
    inside = (
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return sorted(filter(_is_data, inside), key=lambda path: path.relative_to(folder).parts)
