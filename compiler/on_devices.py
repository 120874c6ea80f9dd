"""What a check or a build measures on each device it names: accuracy, and times or instructions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qcompile.compiler import measure
from qcompile.compiler.data.dataset import Dataset, evenly
from qcompile.compiler.device_options import DeviceOptions
from qcompile.compiler.devices import DevicePair, facts_of, fits, sample_limit
from qcompile.compiler.progress import Progress
from qcompile.compiler.report.devices import DeviceTimes
from qcompile.compiler.report.mixed import Gate
from qcompile.compiler.report.model import OnDevice
from qcompile.compiler.verify.accuracy import evaluate
from qcompile.compiler.verify.gates import Limits, judge
from qcompile.compiler.verify.user_metric import UserMetric
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds
from qcompile.core.notes import Note
from qcompile.targets.devices.device import Device, DeviceInfo


@dataclass(frozen=True)
class Tried:
    """What was measured on one device."""

    found: OnDevice
    times: DeviceTimes
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class OnDevices:
    """Runs a float model's artefact on devices.

    Args:
        pair: the float model and its artefact.
        options: which samples.
        data: samples that accuracy is judged on; None for none.
        described: one phrase for the report on where they come from; the name of the set if empty.
        latency: whether to time, or on emulated devices count, at all.
        no_data: why there are no samples.
        threads: samples in work at a time.
        metric: the user's own, if there is one.
    """

    pair: measure.Pair
    options: DeviceOptions
    data: Dataset | None
    timed_on: Feeds | None
    described: str = ""
    no_data: str = ""
    latency: bool = True
    threads: int = 1
    metric: UserMetric | None = None

    def run(self, devices: Sequence[Device], progress: Progress) -> list[Tried]:
        """One device after the other.

        Raises:
            QCompileError: what devices raise; one without a way to run models on given inputs, or
                to count instructions, is no error: the report says so.
        """
        return [self._try(DevicePair(device, self.pair), progress) for device in devices]

    def _try(self, on: DevicePair, progress: Progress) -> Tried:
        spec = on.info.spec
        notes = _unfit_notes(on)
        found = OnDevice(device=facts_of(on.info), no_accuracy=self.no_data)
        if self.data is not None:
            data = evenly(self.data, sample_limit(self.options, on.info))
            with progress.stage(f"judge on {spec}", len(data)) as counter:
                try:
                    accuracy = evaluate(
                        self.pair.reference.session(),
                        on.candidate(),
                        data,
                        data=self._described(data),
                        threads=self.threads,
                        arithmetic=on.arithmetic,
                        metric=self.metric,
                        counter=counter,
                    )
                    found = replace(found, accuracy=accuracy)
                except QCompileError as error:
                    if error.code is not Code.DEVICE_UNFIT:
                        raise
                    found = replace(found, no_accuracy=error.message)
        return Tried(found, self._times(on, progress), tuple(notes))

    def _described(self, data: Dataset) -> str:
        """Which samples, for the report: as they were, or how many of them."""
        assert self.data is not None
        whole = self.described or f"{len(self.data)} samples of {self.data.name}"
        return whole if len(data) == len(self.data) else f"{len(data)} evenly of: {whole}"

    def _times(self, on: DevicePair, progress: Progress) -> DeviceTimes:
        spec, feeds = on.info.spec, self.timed_on
        if not self.latency or feeds is None:
            why = "there are no samples to run on" if self.latency else "not asked for"
            return DeviceTimes(spec=spec, no_latency=why)
        if self.pair.facts.simulated:
            return DeviceTimes(spec=spec, no_latency="the time of a simulation says nothing")
        if not on.info.emulated:
            with progress.stage(f"time on {spec}"):
                return DeviceTimes(spec=spec, latency=on.latency(feeds))
        emulated = "it is emulated: its times mean nothing"
        with progress.stage(f"count on {spec}"):
            try:
                counted = on.instructions(feeds)
            except QCompileError as error:
                if error.code is not Code.DEVICE_UNFIT:
                    raise
                return DeviceTimes(spec=spec, no_latency=emulated, no_instructions=error.message)
        return DeviceTimes(spec=spec, no_latency=emulated, instructions=counted)


def check_limits(limits: Limits, infos: Sequence[DeviceInfo]) -> None:
    """Refuse limits that no device here can be held to, before anything runs.

    Args:
        limits: what was asked.
        infos: the devices; none for this process.

    Raises:
        QCompileError: DEVICE_UNFIT for a limit of time where every device is emulated; BAD_OPTION
            for one of instructions where none is.
    """
    if limits.timed and infos and all(info.emulated for info in infos):
        raise QCompileError(
            Code.DEVICE_UNFIT,
            f"--{limits.timed[0]}: {infos[0].spec} is emulated, its times mean nothing",
            hint="--max-instructions-ratio holds the instructions it executes",
        )
    asked = limits.max_instructions_ratio is not None
    if asked and not any(info.emulated for info in infos):
        raise QCompileError(
            Code.BAD_OPTION,
            "--max-instructions-ratio needs an emulated device, which counts them",
            hint="for example --device qemu:cortex-a76",
        )


def judge_each(limits: Limits, tried: Sequence[Tried]) -> tuple[Gate, ...]:
    """Hold every device to the limits: a clock's where it has one, instructions where it has not.

    Raises:
        QCompileError: BAD_OPTION when a limit is asked for a figure that was not measured.
    """
    gates: list[Gate] = []
    for one in tried:
        spec, emulated = one.found.device.spec, one.found.device.emulated
        own = limits.without_time if emulated else replace(limits, max_instructions_ratio=None)
        times = one.times
        for gate in judge(own, one.found.accuracy, times.latency, times.instructions):
            remark = f"on {spec}; {gate.remark}" if gate.remark else f"on {spec}"
            gates.append(replace(gate, remark=remark))
    return tuple(gates)


def _unfit_notes(on: DevicePair) -> list[Note]:
    target = on.pair.target
    if target is None or fits(on.info, target):
        return []
    return [Note("warning", f"{on.info.spec} is not a machine that {target.name} is made for")]
