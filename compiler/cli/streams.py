"""The two streams: results go to stdout, where failing to print them is an error like any other;
progress goes to stderr.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from qcompile.core.errors import Code, QCompileError

if TYPE_CHECKING:
    from qcompile.compiler.progress import Progress


class ReaderGone(Exception):  # noqa: N818
    """Who read our results has closed the pipe: nothing is wrong, and nothing is left to do.

    No BrokenPipeError, because click turns that into exit code 1, which means a failed gate here.
    """


@contextlib.contextmanager
def results() -> Iterator[IO[str]]:
    """Standard output; what was written to it has arrived when the context ends.

    Raises:
        QCompileError: OUTPUT_UNWRITABLE when it cannot be written (a full disk).
        ReaderGone: who read it has gone.
    """
    stream = sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")  # a file name may hold any bytes
    try:
        yield stream
        stream.flush()
    except BrokenPipeError as error:
        _let_go(stream)
        raise ReaderGone from error
    except OSError as error:
        _let_go(stream)
        raise no_room(error) from error


def no_room(error: OSError) -> QCompileError:
    """The error for a stream or a temporary file that cannot be written."""
    where = f" {error.filename}" if error.filename else " the results"
    return QCompileError(Code.OUTPUT_UNWRITABLE, f"cannot write{where}: {error.strerror or error}")


def _let_go(stream: IO[str]) -> None:
    """Lose what could not be written, or Python tries again at exit and prints a traceback."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def progress_on_stderr(*, quiet: bool, verbose: bool) -> "Iterator[Progress]":
    """What the pipeline reports its stages to: a bar on a terminal, lines if ``verbose``."""
    if sys.stderr.isatty() and not quiet:
        from qcompile.compiler.cli.bar import Bar

        with Bar(sys.stderr) as bar:
            yield bar
    elif verbose:
        from qcompile.compiler.cli.bar import Lines

        yield Lines(sys.stderr)
    else:
        from qcompile.compiler.progress import Silent

        yield Silent()
