"""A report in words: facts, tables and remarks that a terminal or a notebook only has to set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """A table of finished text; columns in ``right`` hold numbers, those in ``whole`` names that
    must not be broken over lines.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()
    whole: tuple[int, ...] = ()


@dataclass(frozen=True)
class Remark:
    """A sentence of its own; ``tone`` is ``info``, ``warning``, ``bad`` or ``good``."""

    tone: str
    text: str


@dataclass(frozen=True)
class Page:
    """What a person reads about a build, a check or a model."""

    title: str
    facts: tuple[tuple[str, str], ...]
    """Label and text; a label that is empty continues the one before."""
    tables: tuple[Table, ...] = ()
    remarks: tuple[Remark, ...] = field(default=())


def size(count: int) -> str:
    """A number of bytes in units of 1000, with three digits that mean something."""
    if count < 1000:
        return f"{count} B"
    value, unit = count / 1e3, "kB"
    for bigger in ("MB", "GB"):
        if value >= 999.5:
            value, unit = value / 1e3, bigger
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {unit}"


def percent(share: float) -> str:
    """A share with one decimal; one that is not quite all or nothing is never shown as that."""
    text = f"{100 * share:.1f}"
    if text == "100.0" and share < 1:
        text = "99.9+"
    if text == "0.0" and share > 0:
        text = "<0.1"
    return f"{text} %"


def decibel(value: float | None) -> str:
    """An SQNR with one decimal."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "identical" if value > 0 else "nothing left of the signal"
    return f"{value:.1f} dB"


def milliseconds(value: float) -> str:
    """A time with three digits that mean something."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f} ms"


def count(number: int, one: str, many: str = "") -> str:
    """``1 layer``, ``2 layers``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str], limit: int = 3) -> str:
    """The first names, and how many more there are."""
    more = len(names) - limit
    head = ", ".join(map(short, names[:limit]))
    return f"{head} and {more} more" if more > 0 else head


def short(name: str, most: int = 40) -> str:
    """A name with its middle left out where it is long; the JSON report has all of it."""
    half = (most - 3) // 2
    return name if len(name) <= most else f"{name[:half]}...{name[-half:]}"
