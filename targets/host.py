"""The machine qcompile runs on: its instruction set in the words of the target files."""

import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

from qcompile.core.target import Target
from qcompile.targets.catalog import load_target, target_names

_CAUTIOUS = "ort-x86-avx2"
"""What an unknown machine gets: its artefacts are right on every CPU, if not the fastest there."""

_SPELLINGS = {
    "avx512vnni": "avx512_vnni",  # macOS and its own spelling, then Linux's
    "avx512_vnni": "avx512_vnni",
    "avxvnni": "avx_vnni",
    "avx_vnni": "avx_vnni",
    "asimddp": "dotprod",  # of ARM, as Linux has it
}
_FEATURES = frozenset({"avx2", "vnni", "dotprod", "i8mm"})
"""What target files may ask for."""
_AVX512_CORE = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})


def host_target() -> str:
    """The ONNX Runtime target that fits this machine best.

    Of the targets made for this kind of machine whose features it has, the one that asks for most.
    Where the features cannot be read, VNNI is not assumed.
    """
    return best_target(platform.machine(), features())


def runs_here(target: Target) -> bool:
    """Whether this machine is one that the target is made for."""
    return platform.machine() in target.machines and features() >= set(target.features)


def best_target(machine: str, has: frozenset[str]) -> str:
    """The target for a ``platform.machine()`` value and its features."""
    targets = [load_target(name) for name in target_names()]
    fits = [
        t
        for t in targets
        if t.runtime == "onnxruntime" and machine in t.machines and has >= set(t.features)
    ]
    best = max(fits, key=lambda t: (len(t.features), t.name == _CAUTIOUS), default=None)
    return _CAUTIOUS if best is None else best.name


def features() -> frozenset[str]:
    """What this machine can do, as target files name it; empty where it cannot be asked."""
    return normalize(_linux_flags() or _macos_flags())


def normalize(flags: Iterable[str]) -> frozenset[str]:
    """Feature names of target files from those of an operating system.

    ``vnni`` is what makes ONNX Runtime take kernels that sum in 32 bits: AVX512-VNNI together with
    AVX512 F, BW, DQ and VL, or AVX-VNNI (``MLAS_PLATFORM`` in its ``platform.cpp``).
    """
    found = {_SPELLINGS.get(flag.lower(), flag.lower()) for flag in flags}
    if "avx_vnni" in found or ("avx512_vnni" in found and found >= _AVX512_CORE):
        found.add("vnni")
    return frozenset(found & _FEATURES)


def _linux_flags() -> list[str]:
    """Flags of the first processor in /proc/cpuinfo, which ARM calls Features.

    Under user-mode emulation this may still be the host's processor, not the emulated one.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = text.splitlines()
    line = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return line.partition(":")[2].split()


def _macos_flags() -> list[str]:
    if platform.system() != "Darwin":
        return []
    keys = ["machdep.cpu.features", "machdep.cpu.leaf7_features"]
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", *keys], capture_output=True, text=True, check=False
        )
    except OSError:
        return []
    return done.stdout.split()
