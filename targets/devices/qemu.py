"""An emulated ARM64 machine as a device: the agent under QEMU's user mode, and instruction counts.

Results are those of the CPU that is named, bit by bit; times mean nothing. What is counted are
"ARM64 instructions (emulated)": no cache, no dual issue and no clock stands behind them. They
compare two programs on one CPU and tell a regression, and say nothing in milliseconds.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds
from qcompile.targets.devices.channel import BOOT
from qcompile.targets.devices.device import Program
from qcompile.targets.devices.qemu_counter import MARK, read_counts
from qcompile.targets.devices.qemu_cpus import chosen_cpu, known_cpus, sound_cpu
from qcompile.targets.devices.qemu_userland import Userland, userland
from qcompile.targets.devices.remote import AgentDevice, Transport

_RUNS: Final = 3
"""Of a program that is counted. The fewest instructions count: now and then a run has more."""
_LONGEST: Final = 8.0
"""Seconds after which no further run of a program is counted, but the first."""


def open_qemu(spec: str, rest: str, *, timeout: float) -> "QemuDevice":
    """Start an agent on an emulated CPU.

    Args:
        spec: what the user called the device: ``qemu:cortex-a72``, ``qemu:max,sve=off``.
        rest: of ``spec``, behind the colon.
        timeout: see ``AgentDevice``; a float model may need a minute for a run in emulated SME.

    Raises:
        QCompileError: DEVICE_NOT_PREPARED with the command that prepares; UNKNOWN_DEVICE with the
            CPUs that the emulator has; as ``AgentDevice``.
    """
    machine = userland()
    cpu = chosen_cpu(rest, known_cpus(machine.emulator))
    cpu = sound_cpu(cpu, machine.manifest["emulator"]["version"])
    return QemuDevice(spec, cpu, machine, timeout=timeout)


class QemuDevice(AgentDevice):
    """The agent under emulation.

    Args:
        spec: what the user called it.
        cpu: as ``chosen_cpu`` gives it.
        machine: what is prepared.
        timeout: see ``AgentDevice``.
    """

    def __init__(self, spec: str, cpu: str, machine: Userland, *, timeout: float) -> None:
        self._spec, self._cpu, self._machine, self._patience = spec, cpu, machine, timeout
        super().__init__(self._started(None), timeout=timeout)

    def instructions(
        self, programs: Mapping[str, Program], feeds: Mapping[str, Feeds]
    ) -> Mapping[str, int]:
        """ARM64 instructions (emulated) of one inference of each program, the fewest of three.

        They are counted in an agent of their own, since counting makes everything slower. Give all
        programs at once: a runtime is imported once. Two counts of one program differ by up to
        0.01 % where it is integer and 0.3 % where it is float (one thread); with more threads, by
        what they wait for each other.

        Raises:
            QCompileError: DEVICE_UNFIT with the reason where nothing can count.
        """
        with tempfile.TemporaryDirectory(prefix="qcompile-") as folder:
            counts, found = Path(folder) / "counts", {}
            with AgentDevice(self._started(counts), timeout=self._patience) as agent:
                for name, program in programs.items():
                    seen = len(read_counts(counts))
                    agent.marked_run(
                        program, feeds[name], number=MARK, runs=_RUNS, seconds=_LONGEST
                    )
                    found[name] = self._fewest(read_counts(counts)[seen:])
        return found

    def _fewest(self, marks: list[int]) -> int:
        if not marks or len(marks) % 2:
            raise QCompileError(
                Code.DEVICE_UNFIT, f"{self._spec}: the plugin that counts has seen no mark"
            )
        return min(end - begin for begin, end in zip(marks[::2], marks[1::2], strict=True))

    def _started(self, counts: Path | None) -> Transport:
        command = self._machine.command(self._cpu, ["-c", BOOT], counts)
        version = self._machine.manifest["emulator"]["version"]
        name = f"{self._cpu}, emulated by QEMU {version}"
        return Transport(self._spec, tuple(command), emulated=True, cpu=name)
