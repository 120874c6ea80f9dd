"""The CPUs that an emulator knows, and which of them a user means."""

import re
import subprocess
from collections.abc import Sequence
from typing import Final

from qcompile.core.errors import Code, QCompileError

_SPEC: Final = re.compile(r"[a-z0-9-]+(,[a-z0-9-]+=[a-z0-9-]+)*")
"""A model of ``-cpu`` with properties: ``max,sve=off``."""


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
