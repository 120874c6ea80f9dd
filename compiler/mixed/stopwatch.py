"""Times artefacts beside their float model: in this process, or on a device that was named."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, cast

import onnx_ir as ir

from qcompile.compiler.devices import fits
from qcompile.compiler.report.latency import Latency
from qcompile.compiler.verify.clock import time_here
from qcompile.compiler.verify.latency import settle
from qcompile.core.backend import Backend
from qcompile.core.ends import End, FloatEnds
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds
from qcompile.core.target import Target
from qcompile.targets.backends import backend_of
from qcompile.targets.devices.device import Device, Program, Timed, TimingPlan
from qcompile.targets.onnxruntime.executor import ONE_FILE

FLOAT = "float"
"""What the float model is called among the models that are timed."""


class Stopwatch(Protocol):
    """Says how long artefacts take, relative to the float model."""

    @property
    def where(self) -> str:
        """The machine, for the report."""

    def compare(
        self, artefacts: Mapping[str, bytes], stretch: TimingPlan, precision: float | None = None
    ) -> Latency:
        """Time artefacts in turns with the float model, which is the first.

        Args:
            artefacts: by name.
            stretch: how long.
            precision: see ``verify.latency.settle``.
        """

    def reload(self) -> None:
        """Load the float model anew for the next comparison, as artefacts are for each."""


@dataclass
class Here:
    """This process.

    Args:
        backend: opens artefacts.
        load_float: loads the float model.
        feeds: what one run is fed, as the float model takes it.
    """

    backend: Backend
    load_float: Callable[[], FloatEnds]
    feeds: Feeds
    where: str = "this machine"
    _float: FloatEnds | None = None

    def compare(
        self, artefacts: Mapping[str, bytes], stretch: TimingPlan, precision: float | None = None
    ) -> Latency:
        """See ``Stopwatch``."""
        self._float = self._float or self.load_float()
        loaded = {FLOAT: self._float}
        for name, data in artefacts.items():
            loaded[name] = FloatEnds(self.backend.open(data), self.backend.facts(data).ends)
        sessions = {name: one.session for name, one in loaded.items()}
        fed = {name: [one.feeds(self.feeds)] for name, one in loaded.items()}

        def run(plan: TimingPlan) -> Timed:
            return time_here(sessions, fed, plan)

        return settle(run, stretch, precision=precision)

    def reload(self) -> None:
        """See ``Stopwatch``."""
        self._float = None


@dataclass
class OnDevice:
    """A device that is open.

    Args:
        device: runs and times.
        backend: reads artefacts.
        runtime: that they are for.
        floats: the float model as the runtime there takes it.
        feeds: what one run is fed, as the float model takes it.
    """

    device: Device
    backend: Backend
    runtime: Literal["onnxruntime", "tflite"]
    floats: bytes
    feeds: Feeds
    _held: list[object] = field(default_factory=list)

    @property
    def where(self) -> str:
        """See ``Stopwatch``."""
        return self.device.info.spec

    def compare(
        self, artefacts: Mapping[str, bytes], stretch: TimingPlan, precision: float | None = None
    ) -> Latency:
        """See ``Stopwatch``."""
        return self.time({FLOAT: self.floats, **artefacts}, stretch, precision)

    def time(
        self, models: Mapping[str, bytes], stretch: TimingPlan, precision: float | None = None
    ) -> Latency:
        """Time models in turns; the first is what the others are compared with."""
        programs = {name: Program(data, self.runtime) for name, data in models.items()}
        if not self._held:  # what is loaded there is not sent again
            self._held.append(self.device.session(Program(self.floats, self.runtime)))
        fed = {name: [self._given(data)] for name, data in models.items()}

        def run(plan: TimingPlan) -> Timed:
            return self.device.time(programs, fed, plan)

        return settle(run, stretch, precision=precision)

    def reload(self) -> None:
        """See ``Stopwatch``."""
        self._held.clear()

    def _given(self, data: bytes) -> Feeds:
        is_users = data is self.floats and self.backend.runs_float_file
        known: Mapping[str, End] = {} if is_users else self.backend.facts(data).ends
        return {n: known[n].given(x) if n in known else x for n, x in self.feeds.items()}


def on_device(
    device: Device, target: Target, source: Path, floats: ir.Model, feeds: Feeds
) -> OnDevice:
    """A stopwatch on a device.

    Args:
        device: open.
        target: what artefacts are for.
        source: the user's float model.
        floats: the canonical float graph, for runtimes that do not run the user's file.
        feeds: one sample.

    Raises:
        QCompileError: DEVICE_UNFIT where times mean nothing, or where it is not of the target's
            kind; MISSING_RUNTIME where it lacks the runtime.
    """
    info = device.info
    if info.emulated:
        raise QCompileError(
            Code.DEVICE_UNFIT,
            f"{info.spec} is emulated: its times mean nothing",
            hint="name a device that can be timed, or none to decide by the table of costs",
        )
    if target.machines and not fits(info, target):
        has = ", ".join(sorted(info.features)) or "no features that matter"
        raise QCompileError(
            Code.DEVICE_UNFIT,
            f"{info.spec} ({info.machine} with {has}) is not what {target.name} is made for",
            hint="build for the target that fits the device",
        )
    if target.runtime not in info.runtimes:
        what = f"{info.spec} has no {target.runtime}"
        raise QCompileError(Code.MISSING_RUNTIME, what)
    backend = backend_of(target.runtime)
    data = _whole(source) if backend.runs_float_file else backend.lower(floats, target).data
    runtime = cast("Literal['onnxruntime', 'tflite']", target.runtime)
    return OnDevice(device, backend, runtime, data, feeds)


def _whole(source: Path) -> bytes:
    """The user's model with its external data in one message."""
    import onnx

    model = onnx.load(str(source))
    if model.ByteSize() > ONE_FILE:
        raise QCompileError(
            Code.DEVICE_UNFIT, f"{source.name} is too large to be sent to a device as one file"
        )
    return bytes(model.SerializeToString())
