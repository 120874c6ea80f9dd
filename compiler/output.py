"""The files of one build: checked before work starts, written beside, renamed together at the end.

1. An output is a plain file: nothing is written to folders, devices, pipes or sockets.
2. An output is none of the inputs, also not by another name of the same file, nor in a data folder.
3. Everything is written to temporary files in the output's own folder, flushed to the disk, and
   renamed when all of it is there, the artefact last; if a rename fails, all are undone.
4. A file that would not change is not touched, so that build systems see that nothing happened.
5. An output that is a symbolic link stays one: the file that it leads to is replaced.
"""

import contextlib
import errno
import filecmp
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn, Self

from qcompile.core.closing import Closing
from qcompile.core.errors import Code, QCompileError

REPORT: Final = ".report.json"
PLAN: Final = ".plan.json"
PLAN_ARRAYS: Final = ".plan.npz"
PORTABLE: Final = ".portable"
"""Of the model that an accelerator's artefact was compiled from; its format's suffix follows."""
BESIDE: Final = "/"
"""How the suffix of a file begins that has a name of its own in the artefact's folder."""
_TEMPORARY: Final = ".qcompile-"
"""How the names of temporary files begin; they are gone when a build ends, however it ends."""


class OutputSet(Closing):
    """The artefact OUT and the files that stand beside it, ``OUT`` + suffix.

    Use as a context manager: what was not committed when it ends is removed. ::

        with OutputSet(out, inputs=[model, data]) as outputs:
            ...                                    # hours of work
            outputs.write("", artefact)
            outputs.write(REPORT, text.encode())
            outputs.commit()

    Args:
        out: path of the artefact.
        suffixes: of the files beside it; ``BESIDE`` and a name for one with a name of its own.
        inputs: files and folders that must not be written to or into.

    Raises:
        QCompileError: OUTPUT_NOT_A_FILE, OUTPUT_IS_INPUT or OUTPUT_UNWRITABLE.
    """

    def __init__(
        self,
        out: Path,
        *,
        suffixes: Iterable[str] = (REPORT, PLAN, PLAN_ARRAYS),
        inputs: Iterable[Path] = (),
    ) -> None:
        if str(out) == "-":
            _refuse(out, "standard output is for the report", hint="give the name of a file")
        self._finals = {suffix: _final(out, suffix) for suffix in ("", *suffixes)}
        self._staged: dict[str, Path] = {}
        for final in self._finals.values():
            _check_plain_file(final)
        self.protect(inputs)
        for final in dict.fromkeys(self._finals.values()):
            _check_writable(final)

    def protect(self, inputs: Iterable[Path]) -> None:
        """Refuse to go on if an output is one of these files or lies in one of these folders.

        For inputs that are only known later, such as a model's external data. Paths that do not
        exist are for others to complain of.
        """
        for path in inputs:
            for final in self._finals.values():
                _check_no_input(final, path)

    def __contains__(self, suffix: str) -> bool:
        """Whether a file of this suffix is one of the set."""
        return suffix in self._finals

    def path(self, suffix: str = "") -> Path:
        """Where a file will stand; a symbolic link is followed."""
        return self._finals[suffix]

    def write(self, suffix: str, data: bytes) -> None:
        """Write one file of the set, to be renamed by ``commit``."""
        temporary = self.stage(suffix)
        with _naming(self._finals[suffix]), open(temporary, "wb") as file:
            file.write(data)

    def stage(self, suffix: str) -> Path:
        """An empty temporary file for code that writes a file of the set by itself."""
        final = self._finals[suffix]
        if suffix not in self._staged:
            self._staged[suffix] = _temporary_name(final.parent)
            with _naming(final):
                _make_empty(self._staged[suffix])
        return self._staged[suffix]

    def commit(self) -> Mapping[str, bool]:
        """Put all that was written in its place.

        Returns:
            For each suffix written whether its file changed.
        """
        changed: dict[str, bool] = {}
        with _Undo() as undo:
            for suffix, temporary in self._staged.items():
                with _naming(self._finals[suffix]):
                    _finish(temporary, self._finals[suffix])
            for suffix in sorted(self._staged, key=lambda s: s == ""):
                final = self._finals[suffix]
                with _naming(final):
                    changed[suffix] = _put(self._staged[suffix], final, undo)
        for folder in {final.parent for final in self._finals.values()}:
            _flush_folder(folder)
        return changed

    def close(self) -> None:
        """Remove what was written and not put in its place."""
        for temporary in self._staged.values():
            temporary.unlink(missing_ok=True)
        self._staged.clear()


class _Undo:
    """Keeps what renames replace until all of them are done, and puts it back if one fails."""

    def __init__(self) -> None:
        self._kept: list[tuple[Path, Path | None]] = []

    def keep(self, final: Path) -> None:
        """Remember the file that stands at ``final``, or that there is none."""
        if not final.exists():
            self._kept.append((final, None))
            return
        backup = _temporary_name(final.parent)
        self._kept.append((final, backup))
        try:
            os.link(final, backup)
        except OSError:  # a file system without hard links
            shutil.copy2(final, backup)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for final, backup in reversed(self._kept):
            if error is not None and backup is not None and backup.exists():
                os.replace(backup, final)
            elif error is not None and backup is None:
                final.unlink(missing_ok=True)
            if backup is not None:  # still there after a rename onto itself, which does nothing
                backup.unlink(missing_ok=True)


def _put(temporary: Path, final: Path, undo: _Undo) -> bool:
    """Rename, unless the bytes there are the same already; whether the file changed."""
    if final.exists() and filecmp.cmp(temporary, final, shallow=False):
        temporary.unlink()
        return False
    undo.keep(final)
    os.replace(temporary, final)
    return True


def _finish(temporary: Path, final: Path) -> None:
    """Flush a file to the disk, with the permissions of the one that it replaces."""
    if final.exists():
        temporary.chmod(stat.S_IMODE(final.stat().st_mode))
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make renames last through a power cut, where the system has a way to."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _final(out: Path, suffix: str) -> Path:
    """The path of a file of the set, a symbolic link followed to its end."""
    name = suffix.removeprefix(BESIDE) if suffix.startswith(BESIDE) else out.name + suffix
    path = out.with_name(name) if out.name else out
    try:
        return Path(os.path.realpath(path)) if path.is_symlink() else path
    except OSError as error:  # a name too long, no permission
        raise _unwritable(path, _why(error)) from error
    except ValueError as error:  # a NUL character
        _refuse(path, str(error))


def _check_plain_file(final: Path) -> None:
    try:
        mode = final.stat().st_mode
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise _unwritable(final, f"{final.parent} is not a folder") from error
    except OSError as error:  # no permission, a name too long, a loop of links
        raise _unwritable(final, _why(error)) from error
    except ValueError as error:  # a NUL character
        _refuse(final, str(error))
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "no plain file")
        hint = "name a file in it" if stat.S_ISDIR(mode) else "qcompile writes plain files only"
        _refuse(final, f"it is {kind}", hint=hint)


_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def _check_no_input(final: Path, path: Path) -> None:
    if not path.exists():
        return
    if path.is_dir():
        if final.resolve().is_relative_to(path.resolve()):
            raise QCompileError(
                Code.OUTPUT_IS_INPUT,
                f"output {final} lies in the data folder {path}",
                hint="write it elsewhere: the next build would read it as data",
            )
    elif final.resolve() == path.resolve() or (final.exists() and final.samefile(path)):
        raise QCompileError(
            Code.OUTPUT_IS_INPUT,
            f"output {final} is the input {path}"
            + ("" if final == path else " under another name"),
            hint="give the output a name of its own; inputs are never written",
        )


def _check_writable(final: Path) -> None:
    """Make a file in the folder and remove it: only that tells for sure."""
    parent = final.parent
    if not parent.exists():
        raise _unwritable(final, f"there is no folder {parent}", hint="make the folder first")
    if not parent.is_dir():
        raise _unwritable(final, f"{parent} is not a folder")
    if final.exists() and not os.access(final, os.W_OK):
        raise _unwritable(final, "the file is read-only")
    with _naming(final):
        probe = _temporary_name(parent)
        _make_empty(probe)
        probe.unlink()


def _make_empty(path: Path) -> None:
    """Make an empty file with the permissions that any new file gets."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _temporary_name(folder: Path) -> Path:
    return folder / f"{_TEMPORARY}{secrets.token_hex(8)}.tmp"


@contextlib.contextmanager
def _naming(final: Path) -> Iterator[None]:
    """Turn the system's errors into one that names the output."""
    try:
        yield
    except OSError as error:
        raise _unwritable(final, _why(error)) from error


def _why(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return error.strerror or str(error)


def _unwritable(final: Path, why: str, hint: str | None = None) -> QCompileError:
    return QCompileError(Code.OUTPUT_UNWRITABLE, f"cannot write {final}: {why}", hint=hint)


def _refuse(final: Path, why: str, hint: str | None = None) -> NoReturn:
    raise QCompileError(Code.OUTPUT_NOT_A_FILE, f"cannot write {final}: {why}", hint=hint)
