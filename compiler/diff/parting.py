"""Where two models part: how SQNR falls along the graph, and the first value where it breaks in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from qcompile.compiler.diff.side import Side
from qcompile.compiler.diff.trace import Compared
from qcompile.compiler.report.diff_model import LayerDifference
from qcompile.compiler.verify.metrics import sqnr_db

CEILING: Final = 50.0
"""dB that an SQNR counts for at most: what 8 bits give a value by themselves. From two inputs that
are identical the first rounding is then no fall."""


def layers(
    compared: Compared, first: Side, second: Side, largest_fall: float
) -> tuple[LayerDifference, ...]:
    """One record a value, in graph order; the first whose fall is too large is marked.

    Args:
        compared: sums over the traced samples.
        first: whose graph says what is computed from what.
        second: its nodes' names are taken where the first has none.
        largest_fall: dB.
    """
    rows = compared.second.tolist()
    db = {name: sqnr_db(row[0], row[1]) for name, row in zip(compared.names, rows, strict=True)}
    falls = _gaps(compared) if compared.against is not None else _falls(db, first.parents)
    found = []
    is_open = True
    for index, name in enumerate(compared.names):
        fall = falls[name]
        parts = is_open and abs(fall) > largest_fall
        is_open = is_open and not parts
        node, op = maker(name, first, second)
        found.append(
            LayerDifference(
                value=name,
                node=node,
                op=op,
                identical=rows[index][1] == 0,
                sqnr_db=db[name],
                cosine=_cosine(rows[index]),
                first_sqnr_db=_against(compared, 0, index),
                second_sqnr_db=_against(compared, 1, index),
                fall_db=fall,
                parts_here=parts,
            )
        )
    return tuple(found)


def maker(name: str, first: Side, second: Side) -> tuple[str, str]:
    """The node that makes a value, and its op: by the user's names where a side has them."""
    sides = sorted((first, second), key=lambda side: side.format == "tflite")
    return next((side.makers[name] for side in sides if name in side.makers), ("", "input"))


def _falls(db: Mapping[str, float], parents: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """What SQNR lost against the worst of the nearest compared values that each is made from."""
    falls = {}
    for name, own in db.items():
        above = nearest(name, parents, db.__contains__)
        before = min((min(db[one], CEILING) for one in above), default=CEILING)
        falls[name] = before - min(own, CEILING)
    return falls


def nearest(
    name: str, parents: Mapping[str, Sequence[str]], is_compared: Callable[[str], bool]
) -> set[str]:
    """The nearest values before one that were compared, through those that were not."""
    found: set[str] = set()
    seen = {name}
    todo = list(parents.get(name, ()))
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        if is_compared(one):
            found.add(one)
        else:
            todo.extend(parents.get(one, ()))
    return found


def _gaps(compared: Compared) -> dict[str, float]:
    """How much closer the first is to the reference than the second; negative when it is not."""
    assert compared.against is not None
    return {
        name: min(_db(compared.against[0][i]), CEILING) - min(_db(compared.against[1][i]), CEILING)
        for i, name in enumerate(compared.names)
    }


def _against(compared: Compared, side: int, index: int) -> float | None:
    return None if compared.against is None else _db(compared.against[side][index])


def _db(row: Sequence[float]) -> float:
    return sqnr_db(float(row[0]), float(row[1]))


def _cosine(row: Sequence[float]) -> float | None:
    energy = row[0] * row[3]
    return float(row[2] / energy**0.5) if energy > 0 else None
