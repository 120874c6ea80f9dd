"""A child process that runs a runtime which may crash, print, or hang without taking us along.

Host and child exchange pickled messages over the child's standard input and output. What the
runtime prints, on either stream and from whatever language, goes to a log that the host reads.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Final

from qcompile.core.closing import Closing

_LENGTH: Final = 8
"""Bytes that say how long the message behind them is."""


class WorkerFailed(Exception):  # noqa: N818
    """The runtime refused a call; the child lives on. The text is the runtime's own."""


class WorkerDied(Exception):  # noqa: N818
    """The child crashed, or was ended because a call took too long."""


class Worker(Closing):
    """A child that serves the calls of one module; calls of several threads wait for each other.

    The child ends with its standard input, so it does not outlive us.

    Args:
        module: whose ``main`` calls ``serve``.
        timeout: seconds that one call may take.
    """

    def __init__(self, module: str, *, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        self._read_until = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {module} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(),
        )

    def call(self, name: str, *arguments: Any) -> Any:
        """What the child's function of that name returns.

        Raises:
            WorkerFailed: with the message of the exception there.
            WorkerDied: with what is known of the end of the child.
        """
        with self._lock:
            overdue = threading.Event()
            timer = threading.Timer(self._timeout, self._end, (overdue,))
            timer.start()
            try:
                good, result = self._exchange((name, arguments))
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                raise self._died(overdue) from error
            finally:
                timer.cancel()
        if not good:
            raise WorkerFailed(result)
        return result

    def log(self) -> str:
        """What was printed there since the last time this was asked."""
        self._log.seek(self._read_until)
        text = self._log.read()
        self._read_until += len(text)
        return text.decode(errors="replace")

    def close(self) -> None:
        """End the child."""
        with contextlib.suppress(OSError):
            self._streams()[0].close()
        self._process.kill()
        self._process.wait()
        self._streams()[1].close()
        self._log.close()

    def __del__(self) -> None:
        if hasattr(self, "_process") and not self._log.closed:
            self.close()

    def _exchange(self, message: object) -> tuple[bool, Any]:
        to_child, from_child = self._streams()
        _send(to_child, message)
        good, result = _receive(from_child)
        return bool(good), result

    def _streams(self) -> tuple[BinaryIO, BinaryIO]:
        given, taken = self._process.stdin, self._process.stdout
        assert given is not None and taken is not None
        return given, taken  # type: ignore[return-value]

    def _end(self, overdue: threading.Event) -> None:
        overdue.set()
        self._process.kill()

    def _died(self, overdue: threading.Event) -> WorkerDied:
        code = self._process.wait()
        if overdue.is_set():
            return WorkerDied(f"it took longer than {self._timeout:g} s")
        return WorkerDied(f"its process ended with signal {-code}" if code < 0 else "it ended")


def serve(functions: Mapping[str, Callable[..., Any]]) -> None:
    """The child's side: answer calls until the standard input ends.

    The standard output becomes part of the log, so that nothing that is printed gets in between.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            name, arguments = _receive(sys.stdin.buffer)
        except EOFError:
            os._exit(0)  # no finalizers of a runtime, some of which crash
        try:
            answer = True, functions[name](*arguments)
        except Exception as error:  # whatever a runtime raises is the host's to judge
            answer = False, str(error) or type(error).__name__
        _send(answers, answer)


def _send(stream: BinaryIO, message: object) -> None:
    data = pickle.dumps(message, protocol=5)
    stream.write(len(data).to_bytes(_LENGTH, "little"))
    stream.write(data)
    stream.flush()


def _receive(stream: BinaryIO) -> Any:
    length = stream.read(_LENGTH)
    if len(length) < _LENGTH:
        raise EOFError
    data = stream.read(int.from_bytes(length, "little"))
    return pickle.loads(data)


def _environment() -> dict[str, str]:
    """Ours, in which the child finds this very package first."""
    spec = find_spec(__name__.partition(".")[0])
    assert spec is not None and spec.origin is not None
    package = str(Path(spec.origin).resolve().parents[1])
    known = os.environ.get("PYTHONPATH")
    path = package if not known else os.pathsep.join((package, known))
    return {**os.environ, "PYTHONPATH": path}
