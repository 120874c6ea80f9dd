"""The cheapest division: as found by trying all of them, and with the fewest nodes at a tie."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.compiler.mixed.min_cut import SINK, SOURCE, source_side

NODES = ("a", "b", "c", "d")
ENDS = (SOURCE, *NODES, SINK)
arcs = st.dictionaries(
    st.tuples(st.sampled_from(ENDS), st.sampled_from(ENDS)).filter(lambda arc: arc[0] != arc[1]),
    st.integers(0, 9).map(float),
    max_size=14,
)


def capacity(found, side) -> float:
    return sum(c for (a, b), c in found.items() if a in side and b not in side)


@given(arcs)
def test_no_division_is_cheaper(found):
    side = source_side(found)
    assert SOURCE in side
    assert SINK not in side
    every = [
        frozenset({SOURCE, *some})
        for n in range(len(NODES) + 1)
        for some in itertools.combinations(NODES, n)
    ]
    least = min(capacity(found, one) for one in every)
    assert capacity(found, side) == pytest.approx(least)
    ties = [one for one in every if capacity(found, one) == pytest.approx(least)]
    assert len(side) == min(map(len, ties))


def test_what_must_not_be_cut_stays_together():
    found = {(SOURCE, "a"): 1.0, ("a", "b"): math.inf, ("b", SINK): 5.0}
    assert source_side(found) == {SOURCE}
    with pytest.raises(ValueError, match="both sides"):
        source_side({(SOURCE, "a"): math.inf, ("a", SINK): math.inf})
