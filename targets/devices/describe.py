"""What a device without an agent is: a script for its shell, and the meaning of what it prints."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qcompile.targets.devices.device import DeviceInfo
from qcompile.targets.devices.shell import Shell
from qcompile.targets.host import normalize

_SCRIPT: Final = r"""
say() { echo "== $1"; shift; "$@" 2>/dev/null | head -c 60000; echo; }
say machine uname -m
say system uname -s
say cpuinfo cat /proc/cpuinfo
say board cat /proc/device-tree/model
for p in ro.soc.manufacturer ro.soc.model ro.product.model ro.build.version.release; do
  command -v getprop >/dev/null 2>&1 && say $p getprop $p
done
for c in /sys/devices/system/cpu/cpu[0-9]*; do
  say core.${c##*/cpu} cat $c/cpu_capacity
  say clock.${c##*/cpu} cat $c/cpufreq/cpuinfo_max_freq
  say governor.${c##*/cpu} cat $c/cpufreq/scaling_governor
done
"""
_ZONES: Final = r"""
for z in /sys/class/thermal/thermal_zone*; do
  read -r k <$z/type && read -r t <$z/temp && echo "$k=$t"
done 2>/dev/null; true
"""
_CPU_ZONES: Final = ("cpu", "soc", "pkg", "core")


@dataclass(frozen=True)
class Machine:
    """What the script found."""

    info: DeviceInfo
    """Without runtimes: those are the runner's."""
    cores: tuple[int, ...]
    """Numbers of the cores, the slowest first; of equals the first one first: it serves most
    interrupts."""


def describe(shell: Shell) -> Machine:
    """Ask a device what it is.

    Raises:
        QCompileError: DEVICE_LOST.
    """
    said = _sections(shell.run(["sh", "-c", _SCRIPT]).stdout)
    numbers = sorted(int(key[5:]) for key in said if re.fullmatch(r"core\.\d+", key))
    ranked = sorted(numbers, key=lambda n: (_speed(said, n), n))
    fastest = ranked[-1] if ranked else 0
    pairs = [line.partition(":") for line in said.get("cpuinfo", "").splitlines()]
    fields = [(key.strip(), value.strip()) for key, _, value in pairs]
    info = DeviceInfo(
        spec=shell.spec,
        machine=said.get("machine", ""),
        system=_system(said),
        cpu=_processor(said, fields),
        cores=len(numbers) or sum(key == "processor" for key, _ in fields) or 1,
        features=_features(fields),
        runtimes={},
        governor=said.get(f"governor.{fastest}", ""),
        temperature=temperature(shell),
    )
    return Machine(info, tuple(ranked))


def temperature(shell: Shell) -> float | None:
    """Degrees Celsius of the processor's hottest zone; None where none can be read."""
    found = []
    for line in shell.run(["sh", "-c", _ZONES]).stdout.splitlines():
        kind, _, value = line.rpartition("=")
        if re.fullmatch(r"\d+", value) and int(value) > 0:
            is_cpu = any(word in kind.lower() for word in _CPU_ZONES)
            found.append((is_cpu, int(value) / 1000))
    return max(found)[1] if found else None


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^== (\S+)$", text, flags=re.MULTILINE)
    return {key: value.strip(" \n\0") for key, value in zip(parts[1::2], parts[2::2], strict=True)}


def _speed(said: Mapping[str, str], core: int) -> int:
    for key in ("core", "clock"):
        text = said.get(f"{key}.{core}", "")
        if text.isdigit():
            return int(text)
    return 0


def _system(said: Mapping[str, str]) -> str:
    release = said.get("ro.build.version.release", "")
    return f"Android {release}" if release else said.get("system", "")


def _processor(said: Mapping[str, str], fields: list[tuple[str, str]]) -> str:
    """What a user knows it by: the chip and the model of a phone, else the processor's own name."""
    chip = " ".join(filter(None, (said.get("ro.soc.manufacturer"), said.get("ro.soc.model"))))
    phone = said.get("ro.product.model") or said.get("board")
    name = chip or dict(fields).get("model name") or dict(fields).get("Hardware", "")
    return f"{name} ({phone})" if name and phone else name or phone or ""


def _features(fields: list[tuple[str, str]]) -> frozenset[str]:
    first = dict(reversed(fields))
    return normalize(first.get("flags", first.get("Features", "")).split())
