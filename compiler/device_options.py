"""Which devices a build or check names, checked before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qcompile.compiler.budgets import read_seconds
from qcompile.core.errors import Code, QCompileError

TIMEOUT: Final = 600.0
"""Seconds without an answer after which a device counts as lost: emulated ones are slow."""


@dataclass(frozen=True)
class DeviceOptions:
    """Which devices, and how they are used."""

    specs: tuple[str, ...] = ()
    timeout: float = TIMEOUT
    runner: Path | None = None
    """A native program that runs models where there is no Python."""
    samples: int | None = None
    """Most samples that a device runs; None for all, or few where it is emulated."""


def device_options(
    specs: str | Sequence[str] | None,
    timeout: float | str | None,
    runner: str | Path | None,
    samples: int | None,
) -> DeviceOptions:
    """The options as a user gives them, checked.

    Raises:
        QCompileError: BAD_OPTION for one that cannot be, or that needs a device and has none.
    """
    named = (specs,) if isinstance(specs, str) else tuple(specs or ())
    others = {"--device-timeout": timeout, "--runner": runner, "--device-samples": samples}
    alone = [name for name, value in others.items() if value is not None]
    if not named and alone:
        raise QCompileError(Code.BAD_OPTION, f"{alone[0]} needs --device")
    twice = next((spec for spec in named if named.count(spec) > 1), None)
    if twice is not None:
        raise QCompileError(Code.BAD_OPTION, f"--device {twice} is given twice")
    if samples is not None and samples < 1:
        raise QCompileError(Code.BAD_OPTION, f"--device-samples must be at least 1, not {samples}")
    return DeviceOptions(
        named,
        TIMEOUT if timeout is None else read_seconds("--device-timeout", timeout),
        None if runner is None else Path(runner),
        samples,
    )
