"""Folders for temporary files, and what is said when there is no room for them."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qcompile.core.errors import Code, QCompileError


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or what one may write on it, is used up."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def no_room(what: object) -> QCompileError:
    """The error for temporary files that cannot be written; ``what`` says of which and why."""
    why = what.strerror if isinstance(what, OSError) and what.strerror else what
    return QCompileError(
        Code.OUTPUT_UNWRITABLE,
        f"there is no room for temporary files: {why}",
        hint="name a folder that has some in TMPDIR",
    )


def new_scratch_folder() -> Path:
    """A new folder that whoever asked for it removes.

    Raises:
        QCompileError: OUTPUT_UNWRITABLE when no folder for temporary files can be written.
    """
    try:
        return Path(tempfile.mkdtemp(prefix="qcompile-"))
    except OSError as error:
        raise no_room(error) from error


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for temporary files that is removed with all that is in it.

    Raises:
        QCompileError: as ``new_scratch_folder``.
    """
    folder = new_scratch_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
