"""The cheapest division of a network: none is cheaper, and regions are what they are said to be."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.compiler.mixed.division import cheapest
from qcompile.compiler.mixed.fit import Fit
from qcompile.compiler.mixed.region_costs import CALL, Regions, kind_of
from qcompile.targets.cost_table import BORDER, ROUGH
from tests.compiler.mixed.networks import only_modes, planned, total

PLANNED = planned()
REGIONS = PLANNED.regions
LAYERS = [group.name for group in REGIONS.groups]
PARTS = sorted(REGIONS.guess(ROUGH))
EVERY = [frozenset(s) for n in range(len(LAYERS) + 1) for s in itertools.combinations(LAYERS, n)]
MADE_OF = {layers: REGIONS.parts(only_modes(PLANNED, layers)) for layers in EVERY}


def test_equal_layers_are_one_kind() -> None:
    firsts = list(REGIONS.first_of.values())
    assert len(LAYERS) == 6
    assert len(set(firsts)) == 5
    assert firsts[1] == firsts[2]


def test_a_plan_is_made_of_layers_and_borders() -> None:
    integer = MADE_OF[frozenset()]
    assert integer[CALL] == 1
    assert sum(n for part, n in integer.items() if part.startswith("integer")) == len(LAYERS)
    # x is quantized, y is dequantized; nothing in between
    assert {p: n for p, n in integer.items() if p.startswith(BORDER) and n} == {
        f"{BORDER} 256": 1,
        f"{BORDER} 8": 1,
    }
    one = MADE_OF[frozenset({LAYERS[1]})]
    assert one[f"{BORDER} 512"] == 2
    assert set(REGIONS.all_float) <= set(PARTS)
    assert not any(p.startswith(("integer", BORDER)) for p in REGIONS.all_float)


def test_a_value_read_on_both_sides_pays_once() -> None:
    convolution, add = LAYERS[1], LAYERS[3]
    both = MADE_OF[frozenset({convolution, add})]
    # b goes to both, one dequantizer; d and s each cross; the third layer's output too
    assert both[f"{BORDER} 512"] == 4


@settings(max_examples=150)
@given(st.lists(st.integers(0, 20), min_size=len(PARTS), max_size=len(PARTS)))
def test_no_division_takes_less(times: list[int]) -> None:
    by_part = dict(zip(PARTS, map(float, times), strict=True))
    fit = Fit(by_part, sum(times) or 1.0)
    solved = fit.solve()
    found = cheapest(REGIONS, solved)
    sums = {layers: total(MADE_OF[layers], by_part) for layers in EVERY}
    assert sums[found] == pytest.approx(min(sums.values()), abs=1e-6)
    ties = [layers for layers in EVERY if sums[layers] == pytest.approx(sums[found], abs=1e-6)]
    assert len(found) == min(map(len, ties)), "equal sums go to integer"


def test_caution_asks_for_more() -> None:
    times = dict.fromkeys(PARTS, 0.0)
    times |= {part: 1.0 for part in PARTS if part.startswith("integer")}
    solved = Fit(times, 10.0).solve()
    assert cheapest(REGIONS, solved) == frozenset(LAYERS)
    assert cheapest(REGIONS, solved, caution=100.0) == frozenset()


def test_kinds() -> None:
    graph = PLANNED.model.graph
    kinds = [kind_of(node) for node in graph if node.op_type == "Conv"]
    assert kinds == ["pointwise-thin", "pointwise-thin", "pointwise-thin", "conv-thin"]
    assert Regions(graph, PLANNED.plan, REGIONS.target).guess(ROUGH).keys() == set(PARTS)
