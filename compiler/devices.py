"""The devices that a build or check names: opened together, closed together, and what runs there.

``DevicePair`` is for a device what ``measure.Pair`` is for this process. The float model is judged
by here, where its floats are as good as anywhere; a device runs it to be timed beside the artefact.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property

import onnx

from qcompile.compiler import measure
from qcompile.compiler.device_options import DeviceOptions
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.options import Scheme
from qcompile.compiler.pipeline import prepare
from qcompile.compiler.report.devices import DeviceFacts
from qcompile.compiler.report.latency import Instructions, Latency
from qcompile.compiler.verify.latency import settle
from qcompile.core.ends import End, FloatEnds
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds
from qcompile.core.target import Target
from qcompile.targets.catalog import load_target
from qcompile.targets.devices.catalog import open_device
from qcompile.targets.devices.device import Device, DeviceInfo, Program, Timed, TimingPlan
from qcompile.targets.onnxruntime.executor import ONE_FILE

EMULATED_SAMPLES = 8
"""Samples that an emulated device runs where nothing else is asked: a run takes seconds there."""
_PLAIN_TFLITE = "tflite-arm64"
"""Whose rules the float model is written by for an artefact that does not say its target."""
_FLOATS, _INTEGERS = "float", "integer"


@contextmanager
def open_devices(options: DeviceOptions) -> Iterator[tuple[Device, ...]]:
    """All of them, in their order; when the block ends nothing is left on any of them.

    Raises:
        QCompileError: UNKNOWN_DEVICE, DEVICE_NOT_PREPARED, DEVICE_LOST, MISSING_RUNTIME.
    """
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(open_device(spec, timeout=options.timeout, runner=options.runner))
            for spec in options.specs
        )


def facts_of(info: DeviceInfo) -> DeviceFacts:
    """What a report says of a device."""
    return DeviceFacts(
        spec=info.spec,
        machine=info.machine,
        system=info.system,
        cpu=info.cpu,
        cores=info.cores,
        features=tuple(sorted(info.features)),
        runtimes=tuple(sorted(info.runtimes.items())),
        governor=info.governor,
        emulated=info.emulated,
    )


def fits(info: DeviceInfo, target: Target) -> bool:
    """Whether a target is made for machines like this one."""
    return info.machine in target.machines and info.features >= set(target.features)


def sample_limit(options: DeviceOptions, info: DeviceInfo) -> int | None:
    """How many samples a device runs at most; None for all."""
    if options.samples is not None:
        return options.samples
    return EMULATED_SAMPLES if info.emulated else None


@dataclass(frozen=True)
class DevicePair:
    """A float model and what was made of it, on a device."""

    device: Device
    pair: measure.Pair

    @property
    def info(self) -> DeviceInfo:
        """What the device is."""
        return self.device.info

    @property
    def arithmetic(self) -> str:
        """Whose kernels ran, for the report."""
        runtime = self.program.runtime
        version = self.info.runtimes.get(runtime, "")
        return f"the kernels of {self.info.spec}" + (f" ({runtime} {version})" if version else "")

    @cached_property
    def program(self) -> Program:
        """The artefact."""
        made = self.pair.artefact
        data = made if isinstance(made, bytes) else made.read_bytes()
        onnx_file = self.pair.backend.suffix == ".onnx"
        return Program(data, "onnxruntime" if onnx_file else "tflite")

    def candidate(self) -> FloatEnds:
        """The artefact on the device, to be fed and read as the float model is."""
        return FloatEnds(self.device.session(self.program), self.pair.facts.ends)

    def latency(self, feeds: Feeds) -> Latency:
        """Time both models there on one sample with one thread."""
        programs, fed = self._both(feeds)
        each = {name: [given] for name, given in fed.items()}

        def run(plan: TimingPlan) -> Timed:
            return self.device.time(programs, each, plan)

        return settle(run)

    def instructions(self, feeds: Feeds) -> Instructions:
        """Count what both models execute there for one sample."""
        programs, fed = self._both(feeds)
        counted = self.device.instructions(programs, fed)
        return Instructions(
            label=f"{_word(self.info.machine)} instructions (emulated)",
            floats=counted[_FLOATS],
            integers=counted[_INTEGERS],
        )

    def _both(self, feeds: Feeds) -> tuple[dict[str, Program], dict[str, Feeds]]:
        """Both models by name, the float one first, and the sample as each takes it."""
        floats, ends = self._float_program()
        programs = {_FLOATS: floats, _INTEGERS: self.program}
        fed = {
            _FLOATS: as_given(feeds, ends),
            _INTEGERS: as_given(feeds, self.pair.facts.ends),
        }
        return programs, fed

    def _float_program(self) -> tuple[Program, Mapping[str, End]]:
        """The float model in the artefact's runtime: the user's file, or as the back end writes it.

        Raises:
            QCompileError: DEVICE_UNFIT for a file too large to be sent in one piece; what import
                and lowering raise where it must be written anew.
        """
        pair = self.pair
        if pair.backend.runs_float_file:
            return Program(_one_file(pair.reference), self.program.runtime), pair.reference.ends
        data = pair.baseline if pair.baseline is not None else _baseline(pair)
        return Program(data, self.program.runtime), pair.backend.facts(data).ends


def as_given(feeds: Feeds, ends: Mapping[str, End]) -> Feeds:
    """The float model's feeds as a program with these ends takes them."""
    return {name: ends[name].given(x) if name in ends else x for name, x in feeds.items()}


def _baseline(pair: measure.Pair) -> bytes:
    """The canonical float graph as the artefact's back end writes it."""
    target = pair.target if pair.target is not None else load_target(_PLAIN_TFLITE)
    reference = pair.reference
    imported = load_onnx(reference.path, reference.shapes, static=target.static_shapes)
    model = prepare(imported, Scheme(), unroll=target.unroll)
    return pair.backend.lower(model, target).data


def _one_file(reference: measure.Reference) -> bytes:
    """A model with the tensors that lie in other files taken in."""
    files = load_onnx(reference.path, reference.shapes).files
    if len(files) == 1:
        return reference.path.read_bytes()
    if sum(file.stat().st_size for file in files) > ONE_FILE:
        raise QCompileError(
            Code.DEVICE_UNFIT,
            f"{reference.path.name} is too large to be one file, as a device takes it",
            hint="--no-latency checks the accuracy of the artefact alone",
        )
    data: bytes = onnx.load(str(reference.path)).SerializeToString()
    return data


def _word(machine: str) -> str:
    """``ARM64`` for the machine's own name."""
    return {"aarch64": "ARM64", "arm64": "ARM64", "x86_64": "x86-64", "AMD64": "x86-64"}.get(
        machine, machine
    )
