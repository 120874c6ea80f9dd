"""A device that a native runner is driven on: it gives times, and outputs where it can."""

import hashlib
import math
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from qcompile.core.closing import Closing
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds
from qcompile.core.signature import TensorSpec
from qcompile.targets.backends import backend_of
from qcompile.targets.devices.describe import Machine, describe, temperature
from qcompile.targets.devices.device import DeviceInfo, Program, Timed, TimingPlan
from qcompile.targets.devices.runners.install import CANNOT_START, Installed, cannot_start
from qcompile.targets.devices.runners.runner import Given, Start, Summary
from qcompile.targets.devices.shell import Completed, Shell

_PLAN: Final = TimingPlan()
_PROBE: Final = 3
"""Runs of a start that only shows how long one takes."""
_PROBES: Final = 3
"""Most such starts of a program."""
_STABLE: Final = 0.05
"""Probing ends when a start is at most this much faster than the fastest before it."""
_RUNS: Final = (3, 1000)
"""Fewest and most runs of one start."""
_AND_RESULT: Final = """
result=$1; shift; [ -f "$result" ] && rm -f "$result"
"$@"; code=$?; echo; echo "$0"; [ -f "$result" ] && cat "$result"; exit $code"""
"""Runs a program and prints, behind a mark, the file that it writes; rows would be added to it."""
_WARM_UP: Final = 0.05
"""Seconds of warm-up in each start: a process begins with cold caches and a slow clock."""


@dataclass(frozen=True)
class _Sent:
    """A program on the device."""

    program: Program
    path: str
    inputs: tuple[Given, ...]


class RunnerDevice(Closing):
    """Drives a runner through a shell.

    One value of ``Timed`` is what one start of the runner says of its runs, the median where it
    tells one; programs take turns, start by start. Nothing is made up: ``Timed.each`` says what the
    values are.

    Args:
        shell: to the device; closed with it.
        installed: the runner there.
        timeout: seconds that a start may take besides its runs.

    Raises:
        QCompileError: DEVICE_LOST.
    """

    def __init__(self, shell: Shell, installed: Installed, *, timeout: float) -> None:
        self._shell, self._installed, self._timeout = shell, installed, timeout
        self._runner, self._help = installed.runner, installed.help_text
        self._machine: Machine = describe(shell)
        self._sent: dict[str, str] = {}
        self._pins: dict[int, list[str]] = {}
        self._lock = threading.RLock()  # one start at a time: files have fixed names
        self._info = replace(
            self._machine.info, runtimes={self._runner.runtime: f"of {installed.name}"}
        )

    @property
    def info(self) -> DeviceInfo:
        """What it is; its runtime is that of the runner, which does not tell its version."""
        return self._info

    def session(self, program: Program) -> "RunnerSession":
        """Run a program for its outputs, one start of the runner each time.

        Raises:
            QCompileError: DEVICE_UNFIT where the runner cannot write outputs, or not those that are
                asked for.
        """
        self._check(program)
        gives = self._runner.gives_outputs(self._help)
        if not gives or program.taps:
            what = "inner values" if gives else "outputs"
            raise QCompileError(
                Code.DEVICE_UNFIT,
                f"{self._shell.spec}: {self._runner.name} gives no {what}, only times",
                hint="a device with Python gives them, or a runner with the agent's protocol",
            )
        facts = backend_of(program.runtime).facts(program.data)
        shapeless = [spec for spec in (*facts.inputs, *facts.outputs) if not spec.shape]
        if shapeless:
            raise QCompileError(
                Code.DEVICE_UNFIT,
                f"{self._shell.spec}: {self._runner.name} takes and gives no scalars",
                node=shapeless[0].name,
            )
        return RunnerSession(self, program, facts.inputs, facts.outputs)

    def run(self, program: Program, inputs: Sequence[np.ndarray]) -> bytes:
        """Run a program once on inputs in its order; its outputs, one after the other."""
        output = "outputs"
        with self._lock:
            sent = self._send(program, [str(n) for n in range(len(inputs))], inputs)
            self._shell.remove(output)
            done, _ = self._start(self._planned(sent, 1, 1, output=self._shell.path(output)), 1.0)
            if done.code != 0:
                raise self._failure(done)
            return self._shell.pull(output)

    def time(
        self,
        programs: Mapping[str, Program],
        feeds: Mapping[str, Sequence[Feeds]],
        plan: TimingPlan = _PLAN,
    ) -> Timed:
        """Start the runner on the programs in turns, back and forth; see the class.

        The first feed of each program is what it runs on, where the runner takes inputs.

        Raises:
            QCompileError: MISSING_RUNTIME for a program of another runtime than the runner's.
        """
        with self._lock:
            return self._time(programs, feeds, plan)

    def instructions(
        self, programs: Mapping[str, Program], feeds: Mapping[str, Feeds]
    ) -> Mapping[str, int]:
        """A runner does not count them."""
        raise QCompileError(Code.DEVICE_UNFIT, f"{self._shell.spec} cannot count instructions")

    def close(self) -> None:
        """Remove what was sent."""
        self._shell.close()

    def _time(
        self,
        programs: Mapping[str, Program],
        feeds: Mapping[str, Sequence[Feeds]],
        plan: TimingPlan,
    ) -> Timed:
        begin = time.monotonic()
        sent = {name: self._sent_with(p, feeds[name][0]) for name, p in programs.items()}
        before = temperature(self._shell)
        warm = {name: self._probe(one) for name, one in sent.items()}
        share = plan.seconds / plan.rounds[0] / max(1, len(sent))
        single = {name: max(1e-6, min(s.seconds for s in row)) for name, row in warm.items()}
        runs = {n: max(_RUNS[0], min(_RUNS[1], int(share / t))) for n, t in single.items()}
        rows: dict[str, list[Summary]] = {name: [] for name in sent}
        for turn in range(plan.rounds[1]):
            if turn >= plan.rounds[0] and time.monotonic() - begin > plan.seconds:
                break
            for name in list(sent) if turn % 2 == 0 else reversed(list(sent)):
                warm_up = math.ceil(_WARM_UP / single[name])
                rows[name].append(self._timed(sent[name], runs[name], warm_up, single[name]))
        degrees = [t for t in (before, temperature(self._shell)) if t is not None]
        return Timed(
            {name: _values(row) for name, row in rows.items()},
            {name: _values(row) for name, row in warm.items()},
            tuple(degrees),
            each=self._each([summary for row in rows.values() for summary in row]),
        )

    # --- sending -------------------------------------------------------------------------------

    def _sent_with(self, program: Program, feeds: Feeds) -> _Sent:
        """Send a program and its inputs."""
        self._check(program)
        takes = self._runner.takes_inputs(self._help)
        names = list(feeds) if takes else []
        if takes and program.runtime == "tflite":  # which counts its inputs, and does not name them
            names = [spec.name for spec in backend_of("tflite").facts(program.data).inputs]
        missing = [name for name in names if name not in feeds]
        if missing:
            raise QCompileError(Code.RUNTIME_FAILED, f"input {missing[0]!r} is not given")
        return self._send(program, names, [np.asarray(feeds[name]) for name in names])

    def _send(self, program: Program, names: Sequence[str], arrays: Sequence[np.ndarray]) -> _Sent:
        """Send what is not there yet."""
        folder = "m" + hashlib.sha256(program.data).hexdigest()[:16]
        files = {self._runner.model_name: program.data}
        files |= self._runner.input_files(names, arrays)
        for name, data in files.items():
            digest = hashlib.sha256(data).hexdigest()
            if self._sent.get(f"{folder}/{name}") != digest:
                self._shell.push(data, f"{folder}/{name}")
                self._sent[f"{folder}/{name}"] = digest
        inputs = [
            Given(self._shell.path(f"{folder}/{name}"), array.shape)
            for name, array in zip(list(files)[1:], arrays, strict=False)
        ]
        ranked = all(given.shape for given in inputs)  # a scalar has no shape to write down
        path = self._shell.path(f"{folder}/{self._runner.model_name}")
        return _Sent(program, path, tuple(inputs) if ranked else ())

    def _check(self, program: Program) -> None:
        """Whether the runner can do what a program asks for."""
        if program.runtime != self._runner.runtime:
            raise QCompileError(
                Code.MISSING_RUNTIME,
                f"{self._shell.spec}: {self._runner.name} runs no models for {program.runtime}",
                hint=f"give a runner for {program.runtime}",
            )
        if program.kernels not in self._runner.kernels(self._help):
            raise QCompileError(
                Code.DEVICE_UNFIT,
                f"{self._shell.spec}: {self._runner.name} cannot be told to use the kernels "
                f"{program.kernels!r}",
            )

    # --- starting ------------------------------------------------------------------------------

    def _probe(self, sent: _Sent) -> list[Summary]:
        """Short starts until they are no longer faster."""
        found: list[Summary] = []
        for _ in range(_PROBES):
            best = min((s.seconds for s in found), default=math.inf)
            found.append(self._timed(sent, _PROBE, 1, 1.0))
            if found[-1].seconds >= best * (1 - _STABLE):
                break
        return found

    def _timed(self, sent: _Sent, runs: int, warm_up: int, single: float) -> Summary:
        """One start. ``single``: seconds that a run is expected to take."""
        start = self._planned(sent, runs, warm_up, result=self._shell.path("result"))
        done, result = self._start(start, single * (runs + warm_up))
        summary = self._runner.summary(done.text, result, warm_up)
        if done.code != 0 or summary is None:
            raise self._failure(done)
        return summary

    def _planned(
        self, sent: _Sent, runs: int, warm_up: int, *, result: str = "", output: str = ""
    ) -> Start:
        p = sent.program
        return Start(
            self._installed.path,
            sent.path,
            p.threads,
            p.kernels,
            runs,
            warm_up,
            sent.inputs,
            result,
            output,
        )

    def _start(self, start: Start, expected: float) -> tuple[Completed, str]:
        """What it printed and its result file, by one command: a connection may take a second."""
        words = [*self._pin(start.threads), *self._runner.argv(start, self._help)]
        mark = secrets.token_hex(8)
        done = self._shell.run(
            ["sh", "-c", _AND_RESULT, mark, start.result or "/dev/null", *words],
            timeout=self._timeout + 10 * expected,
            env=self._installed.environment,
        )
        printed, _, result = done.stdout.partition(f"\n{mark}\n")
        return replace(done, stdout=printed), result

    def _pin(self, threads: int) -> list[str]:
        """What keeps a program on the fastest cores; nothing where the device does not let it."""
        if threads not in self._pins:
            words: list[str] = []
            if "taskset" in self._shell.tools and self._machine.cores:
                mask = sum(1 << core for core in self._machine.cores[-threads:])
                words = ["taskset", f"{mask:x}"]  # hexadecimal, as every version of it reads
            works = bool(words) and self._shell.run([*words, "true"]).code == 0
            self._pins[threads] = words if works else []
        return self._pins[threads]

    def _failure(self, done: Completed) -> QCompileError:
        """What went wrong in a start."""
        name, spec = self._runner.name, self._shell.spec
        if done.code in CANNOT_START:
            return cannot_start(spec, name, done)
        reason = self._runner.refused(done.text)
        if reason:
            return QCompileError(
                Code.RUNTIME_REFUSED, f"{spec}: {name} does not load the model: {reason}"
            )
        if done.code > 128:
            why = f"was ended by signal {done.code - 128}, or took too long"
        else:
            lines = [line.strip() for line in done.text.splitlines() if line.strip()]
            last = lines[-1] if lines else "nothing was printed"
            why = f"failed (exit code {done.code}): {last}"
        return QCompileError(Code.RUNTIME_FAILED, f"{spec}: {name} {why}")

    def _each(self, summaries: Sequence[Summary]) -> str:
        """What a value of ``Timed`` is."""
        counts = sorted({summary.runs for summary in summaries})
        kinds = sorted({summary.kind for summary in summaries})
        runs = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        step = max(summary.step for summary in summaries)
        told = f", told to {step * 1e3:g} ms" if step else ""
        return f"{' or '.join(kinds)} of {runs} runs in one start of {self._runner.name}{told}"


@dataclass(frozen=True, eq=False)
class RunnerSession:
    """A program on a device (``core.executor.Session``); every run starts the runner."""

    device: RunnerDevice
    program: Program
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(spec.name for spec in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(spec.name for spec in self.outputs)

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        """Run once there; outputs must have the shapes that the file says.

        Raises:
            QCompileError: RUNTIME_FAILED, DEVICE_LOST.
        """
        missing = [name for name in self.input_names if name not in feeds]
        if missing:
            raise QCompileError(Code.RUNTIME_FAILED, f"input {missing[0]!r} is not given")
        data = self.device.run(self.program, [np.asarray(feeds[n]) for n in self.input_names])
        return _cut(data, self.outputs)


def _values(row: Sequence[Summary]) -> np.ndarray:
    return np.array([summary.seconds for summary in row])


def _cut(data: bytes, outputs: Sequence[TensorSpec]) -> list[np.ndarray]:
    """Outputs from their bytes, one after the other."""
    kinds = [np.dtype(spec.dtype).newbyteorder("<") for spec in outputs]
    shapes = [tuple(n for n in spec.shape or () if isinstance(n, int)) for spec in outputs]
    sizes = [math.prod(s) * k.itemsize for s, k in zip(shapes, kinds, strict=True)]
    if sum(sizes) != len(data):
        raise QCompileError(
            Code.RUNTIME_FAILED,
            f"the outputs take {len(data)} bytes, where the model's file says {sum(sizes)}",
        )
    arrays, at = [], 0
    for spec, kind, shape, size in zip(outputs, kinds, shapes, sizes, strict=True):
        part = np.frombuffer(data[at : at + size], kind).astype(np.dtype(spec.dtype))
        arrays.append(part.reshape(shape))
        at += size
    return arrays
