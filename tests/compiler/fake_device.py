"""A device inside this process: real runtimes, a clock of its own, kernels that can be wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds, Session
from qcompile.targets.devices.device import DeviceInfo, Program, Timed, TimingPlan
from qcompile.targets.onnxruntime.executor import open_artefact

INFO = DeviceInfo(
    spec="local",
    machine="x86_64",
    system="Linux",
    cpu="a [CPU]",
    cores=4,
    features=frozenset({"avx2", "vnni"}),
    runtimes={"onnxruntime": "1.32.0"},
    governor="performance",
)
Wrong = Callable[[str, np.ndarray], np.ndarray]
"""Name of a value and what it should be -> what this device makes of it."""


@dataclass
class FakeDevice:
    """Runs ONNX files here, exactly; ``wrong`` spoils what it returns."""

    info: DeviceInfo = INFO
    seconds: Mapping[str, float] = field(default_factory=lambda: {"float": 2e-3, "integer": 1e-3})
    counts: Mapping[str, int] | None = None
    refuses_inputs: bool = False
    wrong: Wrong | None = None
    programs: list[Program] = field(default_factory=list)
    closed: bool = False

    def session(self, program: Program) -> Session:
        if self.refuses_inputs:
            raise QCompileError(Code.DEVICE_UNFIT, "its runner takes no inputs")
        self.programs.append(program)
        session = open_artefact(program.data, exact=True)
        return session if self.wrong is None else Spoilt(session, self.wrong)

    def time(
        self,
        programs: Mapping[str, Program],
        feeds: Mapping[str, Sequence[Feeds]],
        plan: TimingPlan = TimingPlan(),  # noqa: B008
    ) -> Timed:
        for name, program in programs.items():
            open_artefact(program.data).run(feeds[name][0])
        rows = {name: np.full(50, self.seconds.get(name, 1e-3)) for name in programs}
        return Timed(rows, {name: row[:3] for name, row in rows.items()}, (40.0, 41.0))

    def instructions(
        self, programs: Mapping[str, Program], feeds: Mapping[str, Feeds]
    ) -> Mapping[str, int]:
        if self.counts is None:
            raise QCompileError(Code.DEVICE_UNFIT, "it does not count instructions")
        return {name: self.counts[name] for name in programs}

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Spoilt:
    """A session whose results are changed on their way out."""

    inner: Session
    wrong: Wrong

    @property
    def input_names(self) -> Sequence[str]:
        return self.inner.input_names

    @property
    def output_names(self) -> Sequence[str]:
        return self.inner.output_names

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        made = zip(self.inner.output_names, self.inner.run(feeds), strict=True)
        return [self.wrong(name, array) for name, array in made]


def emulated(spec: str = "qemu:cortex-a76", **more: object) -> FakeDevice:
    """A device whose times mean nothing."""
    info = replace(INFO, spec=spec, machine="aarch64", features=frozenset(), emulated=True)
    return FakeDevice(info, **more)  # type: ignore[arg-type]
