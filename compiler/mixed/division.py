"""The cheapest division of a model into float and integer layers, by what its parts take."""

import math
from collections.abc import Hashable
from typing import Final

from qcompile.compiler.mixed.fit import Solved
from qcompile.compiler.mixed.min_cut import SINK, SOURCE, source_side
from qcompile.compiler.mixed.region_costs import Border, Regions

_FLOAT: Final = SOURCE
"""The side of float nodes; integer ones are on the other."""


def cheapest(regions: Regions, solved: Solved, *, caution: float = 0.0) -> frozenset[str]:
    """The layers to leave float so that the sum over all parts is least: a minimum cut.

    A layer is an arc to either side, of what it takes on the other. A value pays for its border
    where its maker and any reader are on different sides. What only moves numbers takes nothing and
    goes to whichever side is cheaper; all else is float. Equal sums go to integer.

    Args:
        regions: the layers and borders.
        solved: what each takes.
        caution: standard deviations by which a layer must be faster as float.
    """
    arcs: dict[tuple[Hashable, Hashable], float] = {}
    owner = {name: group.name for group in regions.groups for name in group.nodes}
    for group in regions.groups:
        first = regions.first_of[group.name]
        gain, error = solved.difference(f"integer {first}", f"float {first}")
        gain -= caution * error
        layer = _layer(group.name)
        arcs[(_FLOAT, layer) if gain > 0 else (layer, SINK)] = abs(gain)
    for border in regions.borders:
        _add_border(arcs, border, solved.time(border.part), regions, owner)
    side = source_side(arcs)
    return frozenset(group.name for group in regions.groups if _layer(group.name) in side)


def _add_border(
    arcs: dict[tuple[Hashable, Hashable], float],
    border: Border,
    cost: float,
    regions: Regions,
    owner: dict[str, str],
) -> None:
    """Pay once if the maker is integer and some reader float, or the other way round."""
    maker = _side(border.producer, regions, owner, at_end=regions.plan.ends != "float")
    some_float, some_integer = ("some float", border.value), ("some integer", border.value)
    for name in border.readers:
        reader = _side(name, regions, owner, at_end=False)
        arcs[reader, some_float] = arcs[some_integer, reader] = math.inf
    arcs[some_float, maker] = arcs[maker, some_integer] = cost


def _side(name: str, regions: Regions, owner: dict[str, str], *, at_end: bool) -> Hashable:
    """A node as it stands in the cut; for the model's ends ``at_end`` says if they are integers."""
    if not name:
        return SINK if at_end else SOURCE
    if not regions.plan.is_integer(name):
        return SOURCE
    return _layer(owner[name]) if name in owner else ("mover", name)


def _layer(name: str) -> Hashable:
    return ("layer", name)
