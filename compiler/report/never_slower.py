"""What the report says of layers that are integer or float by what they take."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcompile.compiler.report.page import Table, short

if TYPE_CHECKING:
    from qcompile.core.plan import CostUnit, NodeCost, QuantPlan

SHOWN = 12
"""Kinds of layers that the table lists; the JSON report has all layers."""


@dataclass(frozen=True, kw_only=True)
class RegionCost:
    """One layer, what it takes, and what it became."""

    node: str
    op: str
    choice: str
    """``integer``, ``dynamic`` or ``float``."""
    reason: str
    floats: float
    integers: float
    error: float
    """Half of the 95 % interval of the difference."""
    measured: bool
    like: str = ""
    """The equal layer whose figures these are; empty for its own."""
    unit: "CostUnit" = "ms"


def choice_of(cost: "NodeCost", *, is_float: bool) -> str:
    """Why a layer is what it is, as a phrase."""
    gain = cost.integers - cost.floats
    if _is_even(cost):
        return "float: no difference, and no quantizers" if is_float else "integer: no difference"
    if is_float == (gain > 0):
        better = "faster" if cost.unit == "ms" else "fewer instructions"
        return f"{'float' if is_float else 'integer'}: {better}"
    saved = "integers save" if is_float else "floats would save"
    return f"{'float' if is_float else 'integer'}: quantizers cost more than {saved}"


def _is_even(cost: "NodeCost | RegionCost") -> bool:
    """Whether a clock saw no difference; a table is taken at its word."""
    return abs(cost.integers - cost.floats) <= (cost.error if cost.measured else 0.0)


def region_costs(plan: "QuantPlan") -> tuple[RegionCost, ...]:
    """The layers of a plan whose choice came of what they take, in graph order."""
    return tuple(
        RegionCost(
            node=name,
            op=node.op,
            choice=node.mode,
            reason=choice_of(node.cost, is_float=node.mode == "float"),
            floats=node.cost.floats,
            integers=node.cost.integers,
            error=node.cost.error,
            measured=node.cost.measured,
            like=node.cost.like,
            unit=node.cost.unit,
        )
        for name, node in plan.nodes.items()
        if node.cost is not None
    )


def never_slower_tables(regions: Iterable[RegionCost]) -> list[Table]:
    """The kinds of layers that take most time, equal ones with the same choice as one row.

    ``borders``: the other form is better by itself, but not with the quantizers around it.
    """
    rows: dict[tuple[str, str], list[RegionCost]] = {}
    for region in regions:
        rows.setdefault((region.like or region.node, region.choice), []).append(region)
    kinds = sorted(rows.values(), key=lambda k: -len(k) * max(k[0].floats, k[0].integers))
    if not kinds:
        return []
    most = max(kinds[0][0].floats, kinds[0][0].integers)
    unit, factor = _scaled(kinds[0][0].unit, most)
    shown = tuple(_row(kind, factor) for kind in kinds[:SHOWN])
    measured = all(kind[0].measured for kind in kinds)
    title = f"Layers by what {'they take' if measured else 'a table says they take'}, in {unit}"
    title += f"; the first {SHOWN} of {len(kinds)} kinds" if len(kinds) > SHOWN else ""
    header = ("layer", "op", "n", "float", "integer", "+-", "choice", "why")
    return [Table(title, header, shown, right=(2, 3, 4, 5), whole=tuple(range(len(header))))]


def _row(kind: list[RegionCost], factor: float) -> tuple[str, ...]:
    first = kind[0]
    figures = [f"{factor * cost:.3g}" for cost in (first.floats, first.integers)]
    figures.append(f"{factor * first.error:.2g}")
    return (short(first.node, 16), first.op, str(len(kind)), *figures, first.choice, _why(first))


def _scaled(unit: "CostUnit", most: float) -> tuple[str, float]:
    """The unit in which the largest figure is easily read, and how many of them make one."""
    if unit == "instructions":
        return ("million instructions (emulated)", 1e-6)
    return ("ms", 1.0) if most >= 1 else ("us", 1e3)


def _why(region: RegionCost) -> str:
    """The reason in one word."""
    gain = region.integers - region.floats
    if _is_even(region):
        return "even"
    better = "faster" if region.unit == "ms" else "fewer"
    return better if (region.choice == "float") == (gain > 0) else "borders"
