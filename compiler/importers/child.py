"""Runs the part of an importer that needs a framework in a process of its own.

A framework may crash, print, call sys.exit or never end, and so may the user's code in it: none of
that becomes ours, nor does its memory. The module that runs there imports its framework at its top
and has ``main(request) -> answer``, both JSON objects; files are written into the folder.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import qcompile
from qcompile.core.errors import Code, QCompileError
from qcompile.core.scratch import is_full, no_room

REQUEST: Final = "request.json"
ANSWER: Final = "answer.json"
LOG: Final = "log.txt"
TIMEOUT: Final = 1800.0
"""Seconds that an import may take; a large network takes one or two minutes."""
_LAST_LINES: Final = 4
_LAST_BYTES: Final = 8192
_START: Final = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from qcompile.compiler.importers.child import serve; serve(*sys.argv[2:])"
)


def run_child(
    module: str, request: dict[str, Any], folder: Path, *, timeout: float = TIMEOUT, extra: str
) -> dict[str, Any]:
    """Call ``main`` of a module in another process.

    Its temporary files lie in ``folder`` too, its current folder is ours, and it ends when we do.

    Args:
        module: by its whole name; its framework is imported at its top, and nothing else that
            may be missing.
        request: what ``main`` is given; what JSON can say.
        folder: of the caller, who removes it: for files that ``main`` writes.
        timeout: seconds.
        extra: of ours that brings the framework, for the error when it is missing.

    Returns:
        What ``main`` returned.

    Raises:
        QCompileError: MISSING_EXTRA when the module cannot be imported; what ``main`` raised, or
            IMPORT_FAILED for other exceptions, sys.exit, a crash or too long a time, with the last
            lines that were printed; OUTPUT_UNWRITABLE when there is no room.
    """
    temporary = folder / "temporary"
    try:
        temporary.mkdir(exist_ok=True)
        (folder / ANSWER).unlink(missing_ok=True)
        (folder / REQUEST).write_text(json.dumps(request), encoding="utf-8")
    except OSError as error:
        raise no_room(error) from error
    code = _run(module, folder, temporary, timeout)
    if code is None:
        raise _failed(folder, f"did not end within {timeout:.0f} s")
    try:
        answer: dict[str, Any] = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        how = f"crashed (signal {-code})" if code < 0 else f"ended with {code} before its end"
        raise _failed(folder, how) from None
    if "missing" in answer:
        raise QCompileError(
            Code.MISSING_EXTRA, answer["missing"], hint=f"pip install 'qcompile-edge[{extra}]'"
        )
    if "failed" in answer:
        raise _failed(folder, answer["failed"])
    if "error" in answer:
        raise _told(answer["error"])
    done: dict[str, Any] = answer["done"]
    return done


def _run(module: str, folder: Path, temporary: Path, timeout: float) -> int | None:
    """The exit code of the child, or None when it took too long; none of its processes is left."""
    root = Path(qcompile.__file__).parents[1]
    # -P: the current folder is on no path before the importer puts the user's there.
    command = [sys.executable, "-P", "-c", _START, str(root), module, str(folder)]
    with (folder / LOG).open("wb") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONHASHSEED": "0", "TMPDIR": str(temporary)},
            start_new_session=True,
        )
        try:
            return child.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End the child and what it started (a data loader's workers, a compiler)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _failed(folder: Path, how: str) -> QCompileError:
    last = "; ".join(last_lines(folder / LOG))
    said = f"; it printed last: {last}" if last else ""
    return QCompileError(Code.IMPORT_FAILED, f"the import {how}{said}")


def last_lines(log: Path) -> list[str]:
    """The last lines of a log that are not empty; of a large one only the end is read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()][-_LAST_LINES:]


def _told(error: dict[str, Any]) -> QCompileError:
    code = Code[error["code"]]
    return QCompileError(code, error["message"], node=error["node"], hint=error["hint"])


# --- in the child ------------------------------------------------------------------------------


def serve(module: str, folder: str) -> None:
    """Answer the request that lies in a folder; runs in the child."""
    _end_with_parent()
    answer = _answer(module, json.loads(Path(folder, REQUEST).read_text(encoding="utf-8")))
    unfinished = Path(folder, ANSWER + ".part")
    unfinished.write_text(json.dumps(answer), encoding="utf-8")
    unfinished.replace(Path(folder, ANSWER))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads that the framework or the user's code left keep nobody waiting


def _end_with_parent() -> None:
    """Read standard input to its end, in a thread: it ends with the parent. Others read nothing."""
    held = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        while os.read(held, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _answer(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """What ``main`` of the module says, under a key that says how it went."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        why = "is not installed" if missing else f"cannot be imported: {error}"
        return {"missing": f"reading this model needs {error.name or module}, which {why}"}
    try:
        with _no_exit():
            return {"done": found.main(request)}
    except QCompileError as error:
        told = {"message": error.message, "node": error.node, "hint": error.hint}
        return {"error": {"code": error.code.name, **told}}
    except Exception as error:
        if is_full(error):
            full = no_room(error)
            told = {"message": full.message, "node": None, "hint": full.hint}
            return {"error": {"code": full.code.name, **told}}
        traceback.print_exc()  # the log has it whole; the message its end
        return {"failed": f"failed with {type(error).__name__}: {error}"}


@contextlib.contextmanager
def _no_exit() -> Iterator[None]:
    """The user's sys.exit as an error like others."""
    try:
        yield
    except SystemExit as error:
        raise QCompileError(
            Code.IMPORT_FAILED, f"the import ended itself by sys.exit({error.code!r})"
        ) from error
