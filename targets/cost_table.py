"""What operators cost on a target as floats and as integers, as somebody measured it there."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import Final, Literal, cast, get_args

import numpy as np

from qcompile.core.errors import Code, QCompileError

_COSTS: Final = "qcompile.targets.costs"
Unit = Literal["microseconds", "instructions (emulated)"]
"""What a table counts. Instructions were counted on an emulated CPU, where no clock means anything:
they know neither caches nor what runs at once, and are never turned into a time."""
BORDER: Final = "border"
"""The kind of what lies between floats and integers; its work is elements, its float cost 0."""
OTHER: Final = "other"
"""What a kind costs that is not in the table."""


@dataclass(frozen=True)
class Curve:
    """Costs of one kind of operator by its work: multiply-adds, or elements where it has none."""

    work: tuple[float, ...]
    """Rising."""
    floats: tuple[float, ...]
    integers: tuple[float, ...]

    def at(self, work: float) -> tuple[float, float]:
        """Costs as floats and as integers.

        Between two points both run straight in logarithms; beyond the largest they grow with the
        work; below the smallest they stay, since what is left is the cost of a call.
        """
        last = self.work[-1]
        beyond = max(work / last, 1.0)
        place = np.log(min(max(work, self.work[0]), last))
        return (
            beyond * _between(place, self.work, self.floats),
            beyond * _between(place, self.work, self.integers),
        )


@dataclass(frozen=True)
class CostTable:
    """The costs of a target."""

    target: str
    evidence: str
    """The command that measured them, on what; as text."""
    kinds: Mapping[str, Curve]
    unit: Unit = "microseconds"

    @property
    def is_time(self) -> bool:
        """Whether it was measured on a machine that has a clock."""
        return self.unit == "microseconds"

    def at(self, kind: str, work: float) -> tuple[float, float]:
        """Cost of an operator as floats and as integers.

        Of a kind that is not in the table that of its family (``gemv`` for ``gemv-widening``), or
        else of ``OTHER``.
        """
        family = self.kinds.get(kind.partition("-")[0], self.kinds[OTHER])
        return self.kinds.get(kind, family).at(max(work, 1.0))


ROUGH: Final = CostTable(
    "",
    "no measurement: a guess to begin timing with",
    {
        OTHER: Curve((1.0, 1e3, 1e9), (1.0, 1.0, 1e6), (1.0, 1.0, 1e6)),
        BORDER: Curve((1.0, 1e3, 1e9), (0.0, 0.0, 0.0), (0.5, 0.5, 5e5)),
    },
)


def costs_of(target: str) -> CostTable | None:
    """The table of a target by name; None where nobody has measured it.

    Raises:
        QCompileError: BAD_TARGET_FILE for a file that is none.
    """
    file = files(_COSTS).joinpath(f"{target}.toml")
    if not file.is_file():
        return None
    try:
        return read_costs(tomllib.loads(file.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        what = f"costs of {target}: {error!r}"
        raise QCompileError(Code.BAD_TARGET_FILE, what) from error


def read_costs(document: Mapping[str, object]) -> CostTable:
    """A table from its parsed file; raises ValueError, KeyError or TypeError where it is none."""
    tables = document["kinds"]
    if not isinstance(tables, Mapping) or not {OTHER, BORDER} <= set(tables):
        raise ValueError(f"[kinds.{OTHER}] and [kinds.{BORDER}] must be there")
    unit = document["unit"]
    if unit not in get_args(Unit):
        raise ValueError(f"unit must be one of {', '.join(get_args(Unit))}, not {unit!r}")
    return CostTable(
        str(document["target"]),
        str(document["evidence"]).strip(),
        {name: _curve(name, table) for name, table in tables.items()},
        cast("Unit", unit),
    )


def _curve(name: str, table: Mapping[str, list[float]]) -> Curve:
    work, floats, integers = (
        tuple(float(x) for x in table[key]) for key in ("work", "float", "integer")
    )
    rising = all(a < b for a, b in pairwise(work)) and work and work[0] > 0
    if not rising or len({len(work), len(floats), len(integers)}) != 1:
        raise ValueError(f"[kinds.{name}]: work must rise, and each have its two costs")
    if min(*floats, *integers) < 0:
        raise ValueError(f"[kinds.{name}]: a cost is not negative")
    return Curve(work, floats, integers)


def _between(place: float, work: tuple[float, ...], costs: tuple[float, ...]) -> float:
    if max(costs) <= 0:
        return 0.0
    logs = np.log(np.maximum(costs, 1e-6))
    return float(np.exp(np.interp(place, np.log(work), logs)))
