"""A device on which the agent runs, wherever that is: local, emulated, over SSH or adb.

A new transport is one ``Transport``: the command line that starts Python with ``BOOT``, on whose
stdin and stdout the agent then talks. What its environment needs: Python 3.8 or newer, numpy and a
runtime for it; stdout that is passed on byte for byte (no terminal), and stdin that ends when this
side goes away. What a shell there prints first is skipped. Nothing is installed or written there.
"""

import secrets
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, Final

import numpy as np

from qcompile.core.closing import Closing
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds
from qcompile.targets.devices.channel import Channel
from qcompile.targets.devices.device import DeviceInfo, Program, Timed, TimingPlan
from qcompile.targets.devices.wire import (
    VERSION,
    Header,
    WireError,
    pack_arrays,
    unpack_arrays,
)
from qcompile.targets.host import normalize

_HERE: Final = "qcompile.targets.devices"
_PARTS: Final = ("wire", "agent_machine", "agent_models", "agent_turns", "agent")
"""The files that the agent is made of, each after what it imports."""

_FAULTS: Final = (
    Code.RUNTIME_REFUSED,
    Code.RUNTIME_FAILED,
    Code.MISSING_RUNTIME,
    Code.BAD_OPTION,
)
"""What an agent may say."""

_PLAN: Final = TimingPlan()

DEFAULT_TIMEOUT: Final = 60.0
"""Seconds without a sign of progress after which a device is lost."""

_LONGEST_SILENCE: Final = 120.0
"""Seconds of a time-out that count for an agent elsewhere: a line that froze is noticed from here
much earlier, and no runtime loads a model for as long without letting the agent hear."""

Named = Sequence[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Transport:
    """How the agent is started on a device, and what it cannot know of itself."""

    spec: str
    """What the user called the device."""
    command: tuple[str, ...]
    """Starts Python with ``channel.BOOT`` there; no shell of this side reads it."""
    environment: Mapping[str, str] | None = None
    """Of that command; this process's when None."""
    emulated: bool = False
    """Whether times there mean nothing; clock and temperature are then not asked for."""
    cpu: str = ""
    """Name of the processor, where the agent would see another's."""


class AgentDevice(Closing):
    """See ``device.Device``; one request at a time, from any thread.

    Args:
        transport: starts the agent.
        timeout: seconds without progress after which the device is lost. Progress is a byte that
            moves, or, while programs are timed, a run that ended; so a single run may take as long.
            Without a sign of life from here, as when this process is suspended, the agent ends
            itself after a quarter more, and after at most 150 seconds.

    Raises:
        QCompileError: DEVICE_LOST when no agent answers; MISSING_RUNTIME when there is no numpy.
    """

    def __init__(self, transport: Transport, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._transport = transport
        self._lock = threading.RLock()
        self._dropped: list[int] = []
        self._numbers = 0
        self._open: weakref.WeakValueDictionary[Program, RemoteSession]
        self._open = weakref.WeakValueDictionary()
        self._channel = Channel(
            transport.command,
            timeout=timeout,
            name=transport.spec,
            environment=transport.environment,
        )
        with ExitStack() as unless_it_answers:
            unless_it_answers.callback(self._channel.close)
            self._info = self._hello(_silence(timeout, transport.emulated))
            unless_it_answers.pop_all()

    @property
    def info(self) -> DeviceInfo:
        """What it is."""
        return self._info

    @property
    def process(self) -> int:
        """Number of the process on this side."""
        return self._channel.process

    def session(self, program: Program) -> "RemoteSession":
        """Load a program there; it is unloaded when the session is no longer used.

        An equal program that is loaded already is not sent again.

        Raises:
            QCompileError: BAD_OPTION for kernels or inner values that its runtime has not;
                RUNTIME_REFUSED; MISSING_RUNTIME; DEVICE_LOST.
        """
        _check(program)
        with self._lock:
            loaded = self._open.get(program)
            if loaded is not None:
                return loaded
            self._numbers += 1
            said, _ = self._request(
                {
                    "op": "load",
                    "id": self._numbers,
                    "runtime": program.runtime,
                    "threads": program.threads,
                    "kernels": program.kernels,
                    "taps": list(program.taps),
                },
                blobs=[program.data],
            )
            if not {"inputs", "outputs"} <= set(said):
                raise self._strange("a model has no ends")
            session = RemoteSession(
                self, self._numbers, tuple(said["inputs"]), tuple(said["outputs"])
            )
            weakref.finalize(session, self._dropped.append, self._numbers).atexit = False
            self._open[program] = session
            return session

    def run(self, number: int, feeds: Feeds) -> list[np.ndarray]:
        """Run the model of a session once."""
        _, arrays = self._request({"op": "run", "id": number}, list(feeds.items()))
        return [array for _, array in arrays]

    def time(
        self,
        programs: Mapping[str, Program],
        feeds: Mapping[str, Sequence[Feeds]],
        plan: TimingPlan = _PLAN,
    ) -> Timed:
        """Run programs in turns there; see ``device.Device``.

        Runs are pinned to the fastest cores where the system lets them (Linux), as many as the
        program with the most threads has; with the collector of garbage off. A run is one call of
        the runtime, inputs and outputs handed over and nothing sent.
        """
        if self._transport.emulated:
            raise QCompileError(
                Code.DEVICE_UNFIT,
                f"{self._transport.spec} is emulated: times there mean nothing",
                hint="instructions can be counted there",
            )
        sessions = {name: self.session(program) for name, program in programs.items()}
        arrays = [pair for name in sessions for feed in feeds[name] for pair in feed.items()]
        table = [[n, s.number, [len(feed) for feed in feeds[n]]] for n, s in sessions.items()]
        said, rows = self._request(
            {
                "op": "time",
                "programs": table,
                "seconds": plan.seconds,
                "rounds": list(plan.rounds),
            },
            arrays,
        )
        times, warm = dict(rows[: len(sessions)]), dict(rows[len(sessions) :])
        if set(times) != set(sessions) or set(warm) != set(sessions):
            raise self._strange("programs have no times")
        return Timed(times, warm, tuple(said.get("temperatures", ())))

    def instructions(
        self, programs: Mapping[str, Program], feeds: Mapping[str, Feeds]
    ) -> Mapping[str, int]:
        """Nothing counts them here; a transport that can overrides this."""
        raise QCompileError(Code.DEVICE_UNFIT, f"{self._transport.spec} cannot count instructions")

    def marked_run(
        self, program: Program, feeds: Feeds, *, number: int, runs: int = 3, seconds: float = 60.0
    ) -> None:
        """Run a program once to warm up, then ``runs`` times with a mark before and after each.

        A mark is the system call of that ``number``, by which an emulator's plugin knows where an
        inference begins and ends; one that is not in use does nothing else. After ``seconds`` no
        further run begins but the first.
        """
        session = self.session(program)
        said = {"op": "marked_run", "id": session.number, "number": number}
        self._request({**said, "runs": runs, "seconds": seconds}, list(feeds.items()))

    def close(self) -> None:
        """End the agent; nothing is left there."""
        self._channel.close()

    def _hello(self, silence: float) -> DeviceInfo:
        hello = {"op": "hello", "word": secrets.token_hex(16), "silence": silence}
        self._channel.start(agent_program(), hello, silence=silence)
        said, _ = self._answer()
        if said.get("version") != VERSION:
            raise self._strange(f"it speaks version {said.get('version')}, not {VERSION}")
        try:
            return _info(self._transport, said["device"])
        except (KeyError, TypeError) as error:
            raise self._strange("it does not say what it is") from error

    def _request(
        self, header: Header, arrays: Named = (), blobs: Sequence[bytes] = ()
    ) -> tuple[Header, Named]:
        """Send a request and take its answer; one that is cut in half ends the device."""
        try:
            described, packed = pack_arrays(arrays)
        except WireError as error:
            raise QCompileError(Code.DATA_TYPE, str(error)) from error
        header = {**header, "arrays": described} if arrays else header
        with self._lock:
            header["drop"] = [self._dropped.pop() for _ in range(len(self._dropped))]
            try:
                self._channel.send(header, [*packed, *blobs])
                return self._answer()
            except QCompileError:
                raise
            except BaseException:  # also Ctrl-C
                self._channel.abandon()
                raise

    def _answer(self) -> tuple[Header, Named]:
        while True:
            said, blobs = self._channel.receive()
            if not said.get("progress"):
                break
        if "error" in said:
            raise self._fault(str(said["error"]), str(said.get("message", "")))
        try:
            return said, unpack_arrays(said.get("arrays", []), blobs)
        except WireError as error:
            raise self._strange(str(error)) from error

    def _strange(self, what: str) -> QCompileError:
        """The error for an answer that no agent gives."""
        self._channel.abandon()
        return QCompileError(
            Code.DEVICE_LOST, f"{self._transport.spec}: what came back makes no sense: {what}"
        )

    def _fault(self, name: str, message: str) -> QCompileError:
        code = next((code for code in _FAULTS if code.name == name), None)
        if code is None:
            return self._strange(f"{name} {message}")
        hint = None
        if code is Code.MISSING_RUNTIME:
            hint = "install it there, or name another Python that has it"
        return QCompileError(code, f"{self._transport.spec}: {message}", hint=hint)


@dataclass(frozen=True, eq=False)
class RemoteSession:
    """A model loaded on a device (``core.executor.Session``); lives as long as its device."""

    device: AgentDevice
    number: int
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        """Run it once there.

        Raises:
            QCompileError: RUNTIME_FAILED; DEVICE_LOST; DATA_TYPE for feeds of a type that the wire
                does not know, such as text.
        """
        return self.device.run(self.number, feeds)


def agent_program() -> bytes:
    """The source of the agent as it is sent: its files as modules, then a call of ``serve``."""
    folder = files(_HERE)
    sources = [(f"{_HERE}.{part}", (folder / f"{part}.py").read_text("utf-8")) for part in _PARTS]
    text = (
        "import sys, types\n"
        f"for name, source in {sources!r}:\n"
        "    module = sys.modules[name] = types.ModuleType(name)\n"
        "    exec(compile(source, name, 'exec'), module.__dict__)\n"
        "module.serve()\n"
    )
    return text.encode()


def _silence(timeout: float, emulated: bool) -> float:
    """Seconds after which an agent that hears nothing ends itself.

    A sign of life is sent five times as often, so that a runtime that lets no other thread run may
    keep the agent from hearing them for four fifths of it. Under emulation that may be long, and
    stdin's end is enough there.
    """
    return 1.25 * (timeout if emulated else min(timeout, _LONGEST_SILENCE))


def _check(program: Program) -> None:
    """Whether a program asks for something that its runtime does not have."""
    onnx = program.runtime == "onnxruntime"
    if onnx and program.kernels == "reference":
        raise QCompileError(Code.BAD_OPTION, "ONNX Runtime has no reference kernels")
    if program.taps and (onnx or program.kernels == "default"):
        raise QCompileError(
            Code.BAD_OPTION,
            "inner values can be read of LiteRT without a delegate alone",
            hint="take the kernels builtin or reference; an ONNX file names what it returns",
        )


def _info(transport: Transport, said: Mapping[str, Any]) -> DeviceInfo:
    real = not transport.emulated
    info = DeviceInfo(
        spec=transport.spec,
        machine=said["machine"],
        system=said["system"],
        cpu=said["cpu"],
        cores=said["cores"],
        features=normalize(said["flags"]),
        runtimes=said["runtimes"],
        governor=said["governor"] if real else "",
        temperature=said["temperature"] if real else None,
        emulated=transport.emulated,
    )
    return replace(info, cpu=transport.cpu) if transport.cpu else info
