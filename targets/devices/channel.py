"""A child process that speaks frames over its pipes: no wait for it is longer than its time-out."""

import os
import select
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Final

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.wire import MARKER, Header, WireError, pack, read_frame

BOOT: Final = (
    "import sys;sys.path[:]=filter(None,sys.path);import signal;signal.alarm(300);"
    "exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"
)
"""What ``python -c`` is given: it takes the agent from stdin. It has no quote, backslash, ``$``,
backquote or exclamation mark, so that it stands between single quotes in any shell. The folder that
Python is started in is no place to import from; the alarm ends what waits for an agent in vain."""

_NOISE: Final = 1 << 20
"""Most bytes that a shell may print before the agent's first frame."""
_STDERR: Final = 1 << 13
"""Bytes of the standard error that are kept, the last ones."""
_PATIENCE: Final = 5.0
"""Seconds in which a process whose stdin ended has to end too."""
_REMARK: Final = "INFO:"
"""Start of lines that LiteRT writes to the standard error for no one's use."""


class Channel:
    """Frames to and from a process.

    A wait ends with DEVICE_LOST when nothing has moved for ``timeout`` seconds; it is the silence
    that counts, so a large model on a slow line is no failure. After a failure the process is
    ended and every further use fails alike.

    Args:
        command: starts the process; no shell reads it.
        timeout: seconds.
        name: of the device, for messages.
        environment: the process's, this one's when None.

    Raises:
        QCompileError: DEVICE_LOST when the command cannot be started; DEVICE_UNFIT on Windows.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        timeout: float,
        name: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._timeout, self._name = timeout, name
        if os.name != "posix":
            raise QCompileError(
                Code.DEVICE_UNFIT, f"{name}: devices are driven from Linux or macOS alone"
            )
        try:
            # A session of its own: Ctrl-C ends this process, which then ends that one in order.
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                env=None if environment is None else dict(environment),
            )
        except OSError as error:
            raise QCompileError(
                Code.DEVICE_LOST, f"{name}: {command[0]} does not start: {error.strerror}"
            ) from error
        self._in, self._out = _pipe(self._process.stdin), _pipe(self._process.stdout)
        os.set_blocking(self._in.fileno(), False)
        self._failure: QCompileError | None = None
        self._ahead = b""
        self._sending = threading.Lock()
        self._tail: deque[int] = deque(maxlen=_STDERR)
        self._closed = threading.Event()
        drain = threading.Thread(target=self._drain, args=(_pipe(self._process.stderr),))
        drain.daemon = True
        drain.start()
        self._drainer = drain

    def send(self, header: Header, blobs: Sequence[bytes] = ()) -> None:
        """Write a frame."""
        self._write(pack(header, blobs))

    def start(self, program: bytes, hello: Header, *, silence: float) -> None:
        """Send the agent's source and the first request, and wait for its marker.

        From then on a sign of life goes there, often enough for its deadline of ``silence``
        seconds.
        """
        self._write([b"%d\n" % len(program), program, *pack(hello)])
        self._find(b"\n" + MARKER + str(hello["word"]).encode() + b"\n")
        threading.Thread(target=self._beat, args=(silence / 5,), daemon=True).start()

    def receive(self) -> tuple[Header, list[bytes]]:
        """Take the next frame.

        Raises:
            QCompileError: DEVICE_LOST, with what the other side said last on its stderr.
        """
        try:
            return read_frame(self._read)
        except EOFError:
            raise self._lost(self._how_it_ended()) from None
        except WireError as error:
            raise self._lost(f"what came back makes no sense: {error}") from error

    def close(self) -> None:
        """End the process: it sees its stdin end, then a signal, then one it cannot ignore."""
        self._closed.set()
        if self._failure is None:
            self._failure = QCompileError(Code.DEVICE_LOST, f"{self._name}: it was closed")
        locked = self._sending.acquire(timeout=1.0)  # a number of a closed file may be another's
        self._in.close()
        if locked:
            self._sending.release()
        self._end(_PATIENCE)
        self._drainer.join(timeout=1.0)
        self._out.close()

    def abandon(self) -> None:
        """End the process at once and make every further use fail; for a request cut in half."""
        if self._failure is None:
            self._lost("a request was interrupted")

    @property
    def process(self) -> int:
        """Its number."""
        return self._process.pid

    def _write(self, pieces: Sequence[bytes]) -> None:
        if self._failure is not None:
            raise self._failure
        with self._sending:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[self._write_some(view) :]

    def _write_some(self, view: memoryview) -> int:
        if not _ready(self._in, select.POLLOUT, self._timeout):
            raise self._lost(f"took nothing for {self._timeout:g} seconds")
        try:
            return os.write(self._in.fileno(), view)
        except BlockingIOError:
            return 0
        except OSError as error:  # a broken pipe: why is on the other pipes
            raise self._lost(self._how_it_ended()) from error

    def _read(self, size: int) -> bytes:
        if self._failure is not None:
            raise self._failure
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        if not _ready(self._out, select.POLLIN, self._timeout):
            raise self._lost(f"said nothing for {self._timeout:g} seconds")
        return os.read(self._out.fileno(), size)

    def _find(self, marker: bytes) -> None:
        """Skip to behind the marker; what was read beyond it is kept for the first frame."""
        seen, skipped = b"\n", 0
        deadline = time.monotonic() + self._timeout
        while skipped < _NOISE and time.monotonic() <= deadline:
            data = self._read(4096)
            if not data:
                raise self._lost(self._how_it_ended())
            skipped += len(data)
            before, found, behind = (seen + data).partition(marker)
            if found:
                self._ahead = behind
                return
            seen = before[-len(marker) :]
        raise self._lost("the agent did not answer; something else is printed there")

    def _beat(self, interval: float) -> None:
        """Send signs of life. A frame this short is written to a pipe whole or not at all."""
        (ping,) = pack({"op": "ping"})
        while not self._closed.wait(interval):
            if not self._sending.acquire(blocking=False):
                continue  # a request is on its way, which is a sign too
            try:
                os.write(self._in.fileno(), ping)
            except BlockingIOError:
                pass  # full: whoever waits for the answer sees the time-out
            except (OSError, ValueError):
                return  # closed or broken: whoever waits for an answer hears why
            finally:
                self._sending.release()

    def _drain(self, stderr: IO[bytes]) -> None:
        with stderr:
            while data := os.read(stderr.fileno(), 4096):
                self._tail.extend(data)

    def _lost(self, why: str) -> QCompileError:
        self._end(0.0)
        self._drainer.join(timeout=1.0)
        self._failure = _failure(self._name, why, self._said())
        return self._failure

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(min(self._timeout, _PATIENCE))
        except subprocess.TimeoutExpired:
            return "closed its output"
        if code < 0:
            return f"the process there was ended by {_signal_name(-code)}"
        return f"the connection ended (exit code {code})"

    def _said(self) -> list[str]:
        lines = bytes(self._tail).decode(errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith(_REMARK)]

    def _end(self, patience: float) -> None:
        """Wait for the process to end, then end it and what it started."""
        waits: list[tuple[Callable[[], None], float]] = [
            (lambda: None, patience),
            (lambda: self._signal(signal.SIGTERM), 1.0),
            (lambda: self._signal(signal.SIGKILL), 10.0),
        ]
        for act, seconds in waits:
            act()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
            return

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # Popen was asked for it
    return pipe


def _ready(pipe: IO[bytes], event: int, seconds: float) -> bool:
    """Whether a pipe can be read or written in time, or will tell at once why not."""
    poll = select.poll()
    poll.register(pipe.fileno(), event)
    return bool(poll.poll(seconds * 1000))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _failure(name: str, why: str, said: Sequence[str]) -> QCompileError:
    """What its last words make of a loss."""
    last = said[-1] if said else ""
    text = f"{name}: {why}" + (f": {last}" if last else "")
    if "No module named 'numpy'" in last:
        return QCompileError(
            Code.MISSING_RUNTIME, f"{name}: its Python has no numpy", hint="pip install numpy there"
        )
    return QCompileError(Code.DEVICE_LOST, text)
