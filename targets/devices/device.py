"""The protocol of a device: a machine that runs artefacts, times them and says what it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np

from qcompile.core.executor import Feeds, Session

Kernels = Literal["default", "builtin", "reference"]
"""Which kernels of a runtime run a program. ``default``: what an app gets (ONNX Runtime with all
its optimizations, LiteRT with XNNPACK). ``builtin``: LiteRT without its delegate, ONNX Runtime with
no optimization. ``reference``: LiteRT's reference kernels."""


@dataclass(frozen=True)
class Program:
    """A model file as a device is to run it."""

    data: bytes
    runtime: Literal["onnxruntime", "tflite"]
    threads: int = 1
    kernels: Kernels = "default"
    taps: tuple[str, ...] = ()
    """Inner values to return after the outputs, by the names they have in the file (LiteRT without
    a delegate alone); an ONNX file names what it returns."""


@dataclass(frozen=True)
class DeviceInfo:
    """What a device says of itself."""

    spec: str
    """What the user called it: ``local``, ``qemu:cortex-a53``, ``ssh:host``, ``adb:SERIAL``."""
    machine: str
    """``platform.machine()`` there."""
    system: str
    cpu: str
    """Name of the processor, empty where it cannot be read."""
    cores: int
    features: frozenset[str]
    """Instruction-set features in the words of target files: avx2, vnni, dotprod, i8mm."""
    runtimes: Mapping[str, str]
    """Runtime -> its version there; one that is not installed is missing."""
    governor: str = ""
    temperature: float | None = None
    """Of the processor in degrees Celsius, where it can be read."""
    emulated: bool = False
    """Whether times there mean nothing."""


@dataclass(frozen=True)
class TimingPlan:
    """How programs are timed against each other on a device."""

    seconds: float = 1.5
    """To spend, about, warm-up included."""
    rounds: tuple[int, int] = (7, 1000)
    """Fewest and most rounds; the fewest are run even where they take longer."""


@dataclass(frozen=True)
class Timed:
    """Raw times of programs that ran in turns, back and forth, on a device that was warm."""

    seconds: Mapping[str, np.ndarray]
    """Program -> seconds of its runs, float64 (rounds,); equal rounds belong together."""
    warm_up: Mapping[str, np.ndarray]
    """Program -> seconds of its runs before."""
    temperatures: tuple[float, ...] = field(default=())
    """Degrees Celsius before and after, where they can be read."""
    each: str = ""
    """What a value is where it is not the time of one run: native runners tell only what many runs
    took together (``median of 40 runs in one start of benchmark_model``)."""


class Device(Protocol):
    """A machine that is open; a ``with`` block closes it and leaves nothing behind.

    Every method raises QCompileError: DEVICE_LOST when the connection is cut or a time-out ran out,
    RUNTIME_REFUSED and RUNTIME_FAILED with the reason of the runtime there, MISSING_RUNTIME where
    the device lacks the runtime.
    """

    @property
    def info(self) -> DeviceInfo:
        """What it is."""

    def session(self, program: Program) -> Session:
        """Load a program there; a run sends the feeds there and takes the outputs back."""

    def time(
        self,
        programs: Mapping[str, Program],
        feeds: Mapping[str, Sequence[Feeds]],
        plan: TimingPlan = TimingPlan(),
    ) -> Timed:
        """Run programs in turns on the device.

        Raises:
            QCompileError: DEVICE_UNFIT on one that is emulated.
        """

    def instructions(
        self, programs: Mapping[str, Program], feeds: Mapping[str, Feeds]
    ) -> Mapping[str, int]:
        """Instructions of one inference each, where the device can count them.

        Raises:
            QCompileError: DEVICE_UNFIT where it cannot.
        """

    def close(self) -> None:
        """End what runs there and remove what was sent."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
