"""Reads the amounts that a user sets limits with: seconds, milliseconds, bytes, shares of float."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qcompile.core.errors import Code, QCompileError

SECONDS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
MILLISECONDS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3}
BYTES: Final = {
    "": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20,
    "gib": 2.0**30,
}  # fmt: skip
SHARES: Final = {"x": 1.0, "%": 0.01}
"""How a budget is said to be relative to the float model."""

_AMOUNT: Final = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*([a-zA-Z%]*)\s*")


@dataclass(frozen=True)
class Limit:
    """The most that something may take: an amount, or a share of what the float model takes."""

    most: float
    """Milliseconds or bytes; with ``of_float`` the factor (0.8 is 80 % of float)."""
    of_float: bool = False

    def allows(self, amount: float, of_float: float) -> bool:
        """Whether an amount is inside, given what the float model takes, in the same unit."""
        return amount <= self.amount(of_float)

    def amount(self, of_float: float) -> float:
        """The largest amount inside, given what the float model takes, in the same unit."""
        return self.most * of_float if self.of_float else self.most


def read_seconds(option: str, given: float | str) -> float:
    """Seconds of ``60``, ``"90s"``, ``"5m"`` or ``"1h"``.

    Raises:
        QCompileError: BAD_OPTION for anything else, and for no time at all.
    """
    return read_amount(option, given, SECONDS, "60, 90s, 5m or 1h")


def read_latency(option: str, given: str) -> Limit:
    """The limit of ``"15ms"`` or, of the float model's time, ``"0.8x"`` or ``"80%"``.

    Raises:
        QCompileError: BAD_OPTION for anything else.
    """
    return _limit(option, given, MILLISECONDS, "15ms, 0.8x or 80%")


def read_size(option: str, given: float | str) -> Limit:
    """The limit of ``"2MB"``, ``"500KiB"`` or bytes; of float's size, ``"30%"`` or ``"0.3x"``.

    Raises:
        QCompileError: BAD_OPTION for anything else.
    """
    return _limit(option, given, BYTES, "2MB, 500KiB, 30% or 0.3x")


def read_points(option: str, given: float | None) -> float | None:
    """Points of the metric that may be lost: 0 or more.

    Raises:
        QCompileError: BAD_OPTION for a negative number or none.
    """
    if given is not None and not given >= 0:
        raise QCompileError(Code.BAD_OPTION, f"{option} must be 0 or more, not {given}")
    return given


def _limit(option: str, given: float | str, units: Mapping[str, float], forms: str) -> Limit:
    text = str(given).strip().lower()
    of_float = text.endswith(tuple(SHARES))
    return Limit(read_amount(option, given, SHARES if of_float else units, forms), of_float)


def read_amount(option: str, given: float | str, units: Mapping[str, float], forms: str) -> float:
    """A positive number in one of some units.

    Args:
        option: as the user names it, for the message.
        given: a number, or one with a unit.
        units: unit in lower case -> what it stands for.
        forms: examples for the message.

    Raises:
        QCompileError: BAD_OPTION.
    """
    found = _AMOUNT.fullmatch(str(given))
    unit = units.get(found[2].lower()) if found else None
    if found is None or unit is None or not float(found[1]) > 0:
        raise QCompileError(
            Code.BAD_OPTION, f"{option} {str(given)!r} cannot be read", hint=f"for example {forms}"
        )
    return float(found[1]) * unit
