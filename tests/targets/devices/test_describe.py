"""What is made of what a device without an agent prints: a phone, a board, a PC."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from qcompile.targets.devices.describe import describe
from qcompile.targets.devices.links import local_link
from qcompile.targets.devices.shell import Completed, Shell

PHONE = """\
== machine
aarch64

== system
Linux

== cpuinfo
processor\t: 0
BogoMIPS\t: 38.40
Features\t: fp asimd evtstrm aes asimdhp asimddp i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd46

processor\t: 7
Features\t: fp asimd asimddp

== board

== ro.soc.manufacturer
QTI

== ro.soc.model
SM8550

== ro.product.model
Phone 9

== ro.build.version.release
14

== core.0
250

== clock.0
2016000

== governor.0
walt

== core.7
1024

== clock.7
3187200

== governor.7
performance

== core.3
792

== clock.3
2803200

== governor.3
walt
"""

PC = """\
== machine
x86_64

== system
Linux

== cpuinfo
processor : 0
model name : Some CPU @ 2.20GHz
flags : fpu avx2 avx_vnni

processor : 1
model name : Some CPU @ 2.20GHz
flags : fpu avx2 avx_vnni

== board
"""

ZONES = "battery=31000\ncpu-1-0-usr=47100\ncpuss-0=52300\ngpuss-0=60000\nbad=\nmodem=-274000\n"


@dataclass
class Fake:
    """A shell that prints what a device did."""

    machine: str
    zones: str = ""
    spec: str = "adb:1"
    tools: frozenset[str] = frozenset()
    asked: list[Sequence[str]] = field(default_factory=list)

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        self.asked.append(argv)
        return Completed(0, self.zones if "thermal" in argv[-1] else self.machine, "")


def test_a_phone() -> None:
    found = describe(Fake(PHONE, ZONES))  # type: ignore[arg-type]
    info = found.info
    assert (info.machine, info.system, info.cpu) == (
        "aarch64",
        "Android 14",
        "QTI SM8550 (Phone 9)",
    )
    assert (info.cores, info.governor, info.temperature) == (3, "performance", 52.3)
    assert found.cores == (0, 3, 7), "the slowest first"
    assert info.features >= {"dotprod", "i8mm"}


def test_a_pc_that_tells_little() -> None:
    found = describe(Fake(PC))  # type: ignore[arg-type]
    assert (found.info.cpu, found.info.cores, found.info.governor) == ("Some CPU @ 2.20GHz", 2, "")
    assert found.info.features == {"avx2", "vnni"}
    assert found.info.temperature is None
    assert found.cores == ()


@pytest.mark.parametrize("printed", ["", "sh: uname: not found", "== machine\n", "\0\n== x"])
def test_what_makes_no_sense_is_left_empty(printed: str) -> None:
    info = describe(Fake(printed, printed)).info  # type: ignore[arg-type]
    assert (info.machine, info.cpu, info.cores, info.temperature) == ("", "", 1, None)


def test_this_machine() -> None:
    with Shell(local_link("local")) as shell:
        found = describe(shell)
    assert found.info.machine and found.info.cores >= 1
    assert found.info.cores == max(1, len(found.cores))
