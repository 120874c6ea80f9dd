"""The agent: serves requests on a device until its stdin ends; needs Python 3.8, numpy, a runtime.

What is sent there is one text made of this file and of what it imports (``wire`` and the
``agent_*`` beside it), which import nothing else of qcompile. It comes over stdin, models after it
in the same pipe; nothing is installed and no file is written, so that none can be left behind.

A request is a frame (``wire``) that names an operation of ``Agent``. One frame answers it, with
``error`` and ``message`` where it was refused, after any number of frames that say ``progress``
alone. What a shell printed before ends with the line ``QCOMPILE-AGENT`` and the word that the first
request brought; what runtimes print goes to stderr.

``ping`` is not answered. It is the sign of life without which, after ``silence`` seconds, the alarm
of the operating system ends the process, whatever a runtime is doing in it; so does the end of
stdin, in the middle of an inference too.
"""

from __future__ import annotations

import ctypes
import gc
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, Callable, Mapping, Sequence, Tuple, Union

import numpy as np

from qcompile.targets.devices.agent_machine import cores, describe, fastest, pin, temperature
from qcompile.targets.devices.agent_models import OrtModel, TfliteModel
from qcompile.targets.devices.agent_turns import time_in_turns
from qcompile.targets.devices.wire import (
    MARKER,
    VERSION,
    Arrays,
    FaultError,
    Header,
    WireError,
    pack,
    pack_arrays,
    read_frame,
    unpack_arrays,
)

Model = Union[OrtModel, TfliteModel]
Named = Sequence[Tuple[str, np.ndarray]]
Answer = Tuple[Header, Named]
_PROGRESS = 1.0
"""Fewest seconds between two frames that say only that a request is being worked on."""


class Agent:
    """The loaded models and what can be asked of them: every operation is a method ``do_NAME``.

    Args:
        send: writes a frame.
    """

    def __init__(self, send: Callable[[Header, Named], None]) -> None:
        self._send = send
        self._models: dict[int, Model] = {}
        self._threads: dict[int, int] = {}
        self._told = 0.0

    def answer(self, header: Header, blobs: list[bytes]) -> None:
        """Do one request and send its answer."""
        do = getattr(self, f"do_{header['op']}")
        for number in header.get("drop", ()):
            self._models.pop(number, None)
            self._threads.pop(number, None)
        try:
            said, arrays = do(header, blobs)
        except FaultError as fault:
            said, arrays = {"error": fault.code, "message": fault.message}, []
        self._send(said, arrays)

    def do_hello(self, header: Header, blobs: list[bytes]) -> Answer:
        """What the device is."""
        return {"version": VERSION, "device": describe()}, []

    def do_load(self, header: Header, blobs: list[bytes]) -> Answer:
        """Load the model in the blob under a number of the other side's choice.

        It is loaded on the cores it is to be timed on, since the threads that a runtime starts
        stay where the thread that starts them may run.
        """
        threads, kernels = int(header["threads"]), str(header["kernels"])
        free = cores()
        pin(fastest(threads))
        try:
            if header["runtime"] == "onnxruntime":
                model: Model = OrtModel(blobs[0], threads, kernels)
            else:
                model = TfliteModel(blobs[0], threads, kernels, header["taps"])
        finally:
            pin(free)
        self._models[header["id"]], self._threads[header["id"]] = model, threads
        return {"inputs": model.inputs, "outputs": model.outputs}, []

    def do_run(self, header: Header, blobs: list[bytes]) -> Answer:
        """Run a model once."""
        model = self._models[header["id"]]
        outputs = _run(model, dict(unpack_arrays(header.get("arrays", []), blobs)))
        try:
            pack_arrays([("", output) for output in outputs])
        except WireError as error:
            raise FaultError("RUNTIME_FAILED", str(error)) from error
        return {}, list(zip(model.outputs, outputs))

    def do_time(self, header: Header, blobs: list[bytes]) -> Answer:
        """Time models in turns, pinned to the fastest cores and without garbage collection.

        The arrays are the feeds one after the other; ``programs`` has, for each program, its name,
        the model's number and how many arrays each of its feeds takes.
        """
        arrays = unpack_arrays(header.get("arrays", []), blobs)
        runs, most = {}, 1
        for name, number, counts in header["programs"]:
            feeds = []
            for count in counts:
                feeds.append(dict(arrays[:count]))
                arrays = arrays[count:]
            runs[name] = _Turn(self._models[number], feeds)
            most = max(most, self._threads[number])
        free, before = cores(), temperature()
        pin(fastest(most))
        gc.collect()
        gc.disable()
        try:
            rounds = (int(header["rounds"][0]), int(header["rounds"][1]))
            times, warm = time_in_turns(runs, header["seconds"], rounds, alive=self._progress)
        finally:
            gc.enable()
            pin(free)
        degrees = [t for t in (before, temperature()) if t is not None]
        return {"temperatures": degrees}, [
            (name, np.array(row)) for table in (times, warm) for name, row in table.items()
        ]

    def do_marked_run(self, header: Header, blobs: list[bytes]) -> Answer:
        """Run a model once to warm up and then between two marker system calls each.

        ``runs`` times, or fewer once ``seconds`` have passed: emulated SME is slow.
        """
        model = self._models[header["id"]]
        feeds = dict(unpack_arrays(header.get("arrays", []), blobs))
        syscall, number = ctypes.CDLL(None).syscall, ctypes.c_long(int(header["number"]))
        begin = time.monotonic()
        _run(model, feeds)
        for turn in range(int(header["runs"])):
            if turn and time.monotonic() - begin > float(header["seconds"]):
                break
            syscall(number)
            _run(model, feeds)
            syscall(number)
            self._progress()
        return {}, []

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._told >= _PROGRESS:
            self._told = now
            self._send({"progress": True}, [])


class _Turn:
    """Runs a model on its feeds in turn."""

    def __init__(self, model: Model, feeds: list[Arrays]) -> None:
        self._model, self._feeds = model, feeds

    def __call__(self, turn: int) -> None:
        _run(self._model, self._feeds[turn % len(self._feeds)])


def _run(model: Model, feeds: Arrays) -> list[np.ndarray]:
    missing = [name for name in model.inputs if name not in feeds]
    if missing:
        raise FaultError("RUNTIME_FAILED", f"input {missing[0]!r} is not given")
    try:
        return model.run(feeds)
    except Exception as error:  # runtimes raise classes of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FaultError("RUNTIME_FAILED", "the model failed while running: " + reason) from error


def serve() -> None:
    """Answer requests from stdin until it ends; never returns.

    The thread that reads stdin sees its end while a runtime computes, since runtimes let other
    threads run meanwhile. Should one not, the alarm ends the process: it needs no thread.
    """
    # ONNX Runtime 1.32 writes TMPDIR/.ses when it is imported and reports its use to its maker.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.stdout.flush()
    out = os.dup(1)
    os.dup2(2, 1)  # what runtimes print must not come between frames
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    requests: queue.Queue[tuple[Header, list[bytes]]] = queue.Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()

    def send(said: Mapping[str, Any], arrays: Named) -> None:
        described, blobs = pack_arrays(arrays)
        header = {**said, "arrays": described} if arrays else said
        _write(out, pack(header, blobs))

    agent = Agent(send)
    try:
        while True:
            header, blobs = requests.get()
            if header.get("op") == "hello":
                _write(out, [b"\n" + MARKER + str(header["word"]).encode() + b"\n"])
            agent.answer(header, blobs)
    except BaseException as error:  # no one reads any more, or it is a fault of ours
        _end(error)


def _listen(requests: queue.Queue[tuple[Header, list[bytes]]]) -> None:
    """Put requests into the queue, and end the process when no more can come."""
    silence = 60.0
    stdin: Any = sys.stdin.buffer  # holds what was read ahead with the agent's source

    def read(size: int) -> bytes:
        data: bytes = stdin.read1(size)
        signal.setitimer(signal.ITIMER_REAL, silence)
        return data

    try:
        while True:
            header, blobs = read_frame(read)
            silence = float(header.get("silence", silence))
            signal.setitimer(signal.ITIMER_REAL, silence)
            if header.get("op") != "ping":
                requests.put((header, blobs))
    except EOFError:
        os._exit(0)
    except BaseException as error:
        _end(error)


def _end(error: BaseException) -> None:
    """Say why and end at once, whatever the other threads do."""
    sys.stderr.write(f"agent: {type(error).__name__}: {error}\n")
    sys.stderr.flush()
    os._exit(3)


def _write(out: int, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while view:
            view = view[os.write(out, view) :]
