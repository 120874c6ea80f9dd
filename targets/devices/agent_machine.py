"""The part of the agent that says what the device is: processor, runtimes, clock, temperature."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import importlib
import importlib.util
import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

_CPU = "/sys/devices/system/cpu/cpu"
_AT_HWCAP, _AT_HWCAP2 = 16, 26
_HWCAP = {"asimddp": 1 << 20, "sve": 1 << 22}
_HWCAP2 = {"i8mm": 1 << 13, "bf16": 1 << 14}
"""Bits of the auxiliary vector of 64-bit ARM (Linux, ``uapi/asm/hwcap.h``)."""

_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd0d": "Cortex-A77",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
    "0xd48": "Cortex-X2",
    "0xd49": "Neoverse-N2",
    "0xd4d": "Cortex-A715",
    "0xd4f": "Neoverse-V2",
}
"""``CPU part`` of /proc/cpuinfo for implementer 0x41, Arm."""

_RUNTIMES = (
    ("onnxruntime", "onnxruntime", "onnxruntime", ""),
    ("tflite", "ai_edge_litert", "ai-edge-litert", "LiteRT "),
    ("tflite", "tflite_runtime", "tflite-runtime", "TensorFlow Lite "),
    ("tflite", "tensorflow", "tensorflow", "TensorFlow Lite "),
)
"""Runtime, its module, its distribution, what its version is said after; the first found counts."""


def describe() -> dict[str, Any]:
    """The machine in the words of its own system; ``flags`` are not yet those of target files."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu": _cpu_name(),
        "cores": len(cores()),
        "flags": _flags(),
        "runtimes": _runtimes(),
        "governor": _read(f"{_CPU}{cores()[-1]}/cpufreq/scaling_governor"),
        "temperature": temperature(),
        "python": platform.python_version(),
    }


def cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def fastest(count: int) -> list[int]:
    """The cores to pin ``count`` threads to: those of the largest capacity.

    Of equals the last, since the first serves most interrupts.
    """
    return sorted(cores(), key=lambda core: (_capacity(core), core))[-count:]


def pin(chosen: list[int]) -> None:
    """Let this thread, and those it will start, run on these cores alone, where Linux can."""
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # forbidden here: the system goes on choosing
            os.sched_setaffinity(0, chosen)


def temperature() -> float | None:
    """Degrees Celsius of the hottest zone of the processor, where one can be read."""
    zones = []
    for folder in sorted(glob.glob("/sys/class/thermal/thermal_zone*")):
        kind, value = _read(folder + "/type").lower(), _read(folder + "/temp")
        if value.lstrip("-").isdigit() and int(value) > 0:
            is_cpu = any(word in kind for word in ("cpu", "soc", "pkg", "core"))
            zones.append((is_cpu, int(value) / 1000.0))
    return max(zones)[1] if zones else None


def _capacity(core: int) -> int:
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        text = _read(f"{_CPU}{core}/{name}")
        if text.isdigit():
            return int(text)
    return 0


def _read(path: str) -> str:
    """The text of a small file of the system; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip(" \n\0")
    except OSError:
        return ""


def _cpu_name() -> str:
    """``model name`` of x86; of ARM the cores that are known and the board."""
    if platform.system() == "Darwin":
        return " ".join(_sysctl("machdep.cpu.brand_string"))
    fields = _cpuinfo()
    named = dict(fields).get("model name", "")
    arm = dict(fields).get("CPU implementer") == "0x41"
    kinds = [_ARM_PARTS.get(v, v) for k, v in fields if arm and k == "CPU part"]
    names = sorted(set(kinds)) or ([named] if named else [])
    board = _read("/proc/device-tree/model")
    return " + ".join(names) + (f" ({board})" if board else "")


def _cpuinfo() -> list[tuple[str, str]]:
    pairs = (line.partition(":") for line in _read("/proc/cpuinfo").splitlines())
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _flags() -> list[str]:
    """Flags of the processor.

    On ARM the auxiliary vector says them, which is right under emulation too, where /proc/cpuinfo
    may be another processor's.
    """
    if platform.system() == "Darwin":
        on = [line for line in _sysctl("hw.optional.arm", all_of=True) if line.endswith(": 1")]
        arm = [line.partition("FEAT_")[2].partition(":")[0].lower() for line in on]
        return _sysctl("machdep.cpu.features", "machdep.cpu.leaf7_features") + arm
    if platform.machine() == "aarch64":
        return _hwcaps()
    fields = dict(reversed(_cpuinfo()))  # of the first processor
    return fields.get("flags", fields.get("Features", "")).split()


def _hwcaps() -> list[str]:
    try:
        getauxval = ctypes.CDLL(None).getauxval
    except (OSError, AttributeError):
        return dict(reversed(_cpuinfo())).get("Features", "").split()
    getauxval.restype, getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    first, second = getauxval(_AT_HWCAP), getauxval(_AT_HWCAP2)
    found = [name for name, bit in _HWCAP.items() if first & bit]
    return found + [name for name, bit in _HWCAP2.items() if second & bit]


def _sysctl(*keys: str, all_of: bool = False) -> list[str]:
    """Words of the values of keys, or the lines of all below one."""
    command = ["/usr/sbin/sysctl", *([] if all_of else ["-n"]), *keys]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return []
    text = done.stdout.decode(errors="replace")
    return text.splitlines() if all_of else text.split()


def _runtimes() -> dict[str, str]:
    found: dict[str, str] = {}
    for runtime, module, distribution, says in _RUNTIMES:
        if runtime not in found and importlib.util.find_spec(module) is not None:
            found[runtime] = says + _version(module, distribution)
    return found


def _version(module: str, distribution: str) -> str:
    """From the package's metadata, which is quick; from the module under another name."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        pass
    try:
        return str(getattr(importlib.import_module(module), "__version__", "of no version"))
    except Exception as error:  # says itself what is wrong when a model is loaded
        return f"that cannot be imported ({type(error).__name__} by {sys.executable})"
