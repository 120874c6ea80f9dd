"""Which emulated CPU a user means, and which of them are told when it is none."""

from pathlib import Path

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.qemu_cpus import chosen_cpu, known_cpus, sound_cpu

KNOWN = ("cortex-a53", "cortex-a72", "max", "neoverse-n1")
HELP = """Available CPUs:
  max
  cortex-a72
  cortex-a53               (deprecated)
"""


def emulator(folder: Path, said: str) -> list[str]:
    path = folder / "qemu"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\n")
    path.chmod(0o755)
    return [str(path)]


def test_what_the_emulator_lists(tmp_path: Path) -> None:
    assert known_cpus(emulator(tmp_path, HELP)) == ("cortex-a53", "cortex-a72", "max")


def test_an_emulator_that_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        known_cpus([str(tmp_path / "none")])
    assert caught.value.code is Code.DEVICE_NOT_PREPARED
    assert caught.value.hint == "qcompile device prepare --force"


@pytest.mark.parametrize(
    ("name", "cpu"),
    [
        ("cortex-a72", "cortex-a72"),
        ("Cortex_A72", "cortex-a72"),
        ("a72", "cortex-a72"),
        ("n1", "neoverse-n1"),
        ("max", "max"),
        (" max,sve=off", "max,sve=off"),
        ("a53,aarch64=on,pmu=off", "cortex-a53,aarch64=on,pmu=off"),
    ],
)
def test_spellings(name: str, cpu: str) -> None:
    assert chosen_cpu(name, KNOWN) == cpu


@pytest.mark.parametrize(
    "name",
    ["", "a9", "cortex", "cortex-a7", "-a72", "max,", "max sve=off", "max,-plugin", "a72\n;"],
)
def test_what_is_no_cpu(name: str) -> None:
    with pytest.raises(QCompileError) as caught:
        chosen_cpu(name, KNOWN)
    assert caught.value.code is Code.UNKNOWN_DEVICE
    assert "qemu:cortex-a53, qemu:cortex-a72, qemu:max, qemu:neoverse-n1" in str(caught.value)


def test_an_ending_that_two_share_is_none() -> None:
    with pytest.raises(QCompileError, match="no emulated CPU 'x1'"):
        chosen_cpu("x1", ["cortex-x1", "future-x1"])


@pytest.mark.parametrize(
    ("cpu", "version", "sound"),
    [
        ("max", "7.2.22", "max,sme=off"),
        ("max,sve=off", "9.1.0", "max,sve=off,sme=off"),
        ("max,sme=on", "7.2.22", "max,sme=on"),
        ("max", "10.0.13", "max"),
        ("cortex-a76", "7.2.22", "cortex-a76"),
    ],
)
def test_integer_sme_of_old_emulators_is_left_out(cpu: str, version: str, sound: str) -> None:
    assert sound_cpu(cpu, version) == sound
