"""What an agent says of its machine, read from recorded files of Linux."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

import pytest

from qcompile.targets import host
from qcompile.targets.devices import agent_machine

RASPBERRY = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

processor\t: 1
CPU implementer\t: 0x41
CPU part\t: 0xd03
"""

XEON = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni

processor\t: 1
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu
"""


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files that the machine has."""
    found: dict[str, str] = {}
    monkeypatch.setattr(agent_machine, "_read", lambda path: found.get(path, ""))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    return found


def zones(files: dict[str, str], monkeypatch: pytest.MonkeyPatch, has: Mapping[str, str]) -> None:
    folder = "/sys/class/thermal/thermal_zone"
    for number, (kind, value) in enumerate(has.items()):
        files[f"{folder}{number}/type"], files[f"{folder}{number}/temp"] = kind, value
    names = [f"{folder}{number}" for number in range(len(has))]
    monkeypatch.setattr(agent_machine.glob, "glob", lambda pattern: names)


def test_an_arm_board(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    files["/proc/cpuinfo"] = RASPBERRY
    files["/proc/device-tree/model"] = "Raspberry Pi 4 Model B"
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(agent_machine, "_hwcaps", lambda: ["asimddp", "i8mm"])
    said = agent_machine.describe()
    assert said["cpu"] == "Cortex-A53 + Cortex-A72 (Raspberry Pi 4 Model B)"
    assert host.normalize(said["flags"]) == {"dotprod", "i8mm"}


def test_a_server(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    files["/proc/cpuinfo"] = XEON
    last = agent_machine.cores()[-1]
    files[f"/sys/devices/system/cpu/cpu{last}/cpufreq/scaling_governor"] = "performance"
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    said = agent_machine.describe()
    assert said["cpu"] == "Intel(R) Xeon(R) Processor"
    assert host.normalize(said["flags"]) == {"avx2", "vnni"}  # of the first processor
    assert said["governor"] == "performance"


def test_a_machine_that_says_nothing(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    zones(files, monkeypatch, {})
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    said = agent_machine.describe()
    assert (said["cpu"], said["flags"], said["governor"]) == ("", [], "")
    assert said["temperature"] is None
    assert said["cores"] >= 1


@pytest.mark.parametrize(
    ("has", "degrees"),
    [
        ({"acpitz": "27800", "x86_pkg_temp": "54000"}, 54.0),
        ({"battery": "61000", "cpu-thermal": "48312"}, 48.312),
        ({"cpu0": "41000", "cpu1": "43000"}, 43.0),
        ({"wifi": "33000"}, 33.0),
        ({"soc": "", "broken": "n/a"}, None),
        ({"cpu": "-274000"}, None),
    ],
)
def test_the_temperature_is_the_processors(
    files: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    has: Mapping[str, str],
    degrees: float | None,
) -> None:
    zones(files, monkeypatch, has)
    assert agent_machine.temperature() == degrees


def test_threads_go_to_the_largest_cores(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_machine, "cores", lambda: list(range(6)))
    for core, capacity in enumerate([446, 1024, 1024, 446, 1024, 446]):
        files[f"/sys/devices/system/cpu/cpu{core}/cpu_capacity"] = str(capacity)
    assert agent_machine.fastest(2) == [2, 4]
    assert agent_machine.fastest(4) == [5, 1, 2, 4]
    assert len(agent_machine.fastest(99)) == 6


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not Windows")
def test_pinning_and_letting_go() -> None:
    free = agent_machine.cores()
    try:
        agent_machine.pin(free[-1:])
        assert agent_machine.cores() == free[-1:]
    finally:
        agent_machine.pin(free)
    agent_machine.pin([10_000])  # there is no such core: nothing changes
    assert agent_machine.cores() == free


def test_this_machine_says_what_the_rest_of_qcompile_says() -> None:
    said = agent_machine.describe()
    assert host.normalize(said["flags"]) == host.features()
    assert said["runtimes"]["onnxruntime"].count(".") == 2
    assert Path(said["machine"]).name == platform.machine()
