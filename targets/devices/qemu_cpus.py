"""The CPUs that an emulator knows, and which of them a user means."""

import re
import subprocess
from collections.abc import Sequence
from typing import Final

from qcompile.core.errors import Code, QCompileError

_SPEC: Final = re.compile(r"[a-z0-9-]+(,[a-z0-9-]+=[a-z0-9-]+)*")
"""A model of ``-cpu`` with properties: ``max,sve=off``."""

_SOUND_SME: Final = 10
"""First version of QEMU whose integer SME was seen to compute what a CPU does: with 7.2 XNNPACK's
int8 kernels give garbage on ``max``, any tool's models alike; with 10.0 they are bit-equal."""


def known_cpus(emulator: Sequence[str]) -> tuple[str, ...]:
    """Names that ``qemu-aarch64 -cpu help`` lists, sorted.

    Args:
        emulator: the command line that starts it.

    Raises:
        QCompileError: DEVICE_NOT_PREPARED where it does not run.
    """
    try:
        said = subprocess.run(
            [*emulator, "-cpu", "help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QCompileError(
            Code.DEVICE_NOT_PREPARED,
            f"the emulator {emulator[-1]} does not run: {error}",
            hint="qcompile device prepare --force",
        ) from error
    return tuple(sorted({line.split()[0] for line in said.splitlines() if line[:1] == " "}))


def chosen_cpu(name: str, known: Sequence[str]) -> str:
    """What ``-cpu`` is given for a name of the user's; ``Cortex_A72``, ``a72`` are ``cortex-a72``.

    Args:
        name: a name with the properties that QEMU takes, if any: ``max,sve=off``.
        known: what the emulator knows.

    Raises:
        QCompileError: UNKNOWN_DEVICE with what the emulator knows.
    """
    plain = name.strip().lower().replace("_", "-")
    model, comma, properties = plain.partition(",")
    if _SPEC.fullmatch(plain):
        found = [cpu for cpu in known if cpu == model]
        found = found or [cpu for cpu in known if cpu.endswith(f"-{model}")]
        if len(found) == 1:
            return f"{found[0]}{comma}{properties}"
    raise QCompileError(
        Code.UNKNOWN_DEVICE,
        f"no emulated CPU {name!r}",
        hint=f"this qemu-aarch64 has {', '.join(f'qemu:{cpu}' for cpu in known)}",
    )


def sound_cpu(cpu: str, version: str) -> str:
    """A CPU without what this version of the emulator gets wrong, unless the user asked for it.

    Args:
        cpu: as ``chosen_cpu`` gives it.
        version: of QEMU, ``7.2.22``.
    """
    model, _, properties = cpu.partition(",")
    major = version.partition(".")[0]
    wrong = model == "max" and major.isdigit() and int(major) < _SOUND_SME
    return f"{cpu},sme=off" if wrong and "sme=" not in properties else cpu
