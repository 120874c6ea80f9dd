"""Bits go where they take most noise away, and never beyond the budget."""

from hypothesis import given
from hypothesis import strategies as st

from qcompile.compiler.search.bit_budget import allot

WIDTHS = (2, 4, 8)


def _unit(elements: int, noise: float) -> tuple[dict[int, float], dict[int, float]]:
    """Noise falls by 6 dB a bit."""
    return {w: float(w * elements) for w in WIDTHS}, {w: noise * 4.0 ** (2 - w) for w in WIDTHS}


def test_the_sensitive_one_gets_the_bits() -> None:
    units = [_unit(100, 1.0), _unit(100, 100.0), _unit(100, 0.1)]
    assert allot(units, 3 * 200) == [2, 2, 2]
    assert allot(units, 3 * 200 + 200) == [2, 4, 2]
    assert allot(units, 3 * 200 + 400) == [4, 4, 2]
    assert allot(units, 3 * 800) == [8, 8, 8]


def test_a_small_one_goes_before_a_large_one() -> None:
    """By the bit: the same noise in a tenth of the room."""
    assert allot([_unit(1000, 1.0), _unit(100, 1.0)], 2200 + 200) == [2, 4]


@given(
    st.lists(
        st.tuples(st.integers(1, 1000), st.floats(0, 1e6, allow_nan=False)), min_size=1, max_size=8
    ),
    st.floats(1, 4),
)
def test_within_the_budget(units: list[tuple[int, float]], share: float) -> None:
    made = [_unit(*unit) for unit in units]
    budget = share * sum(bits[2] for bits, _ in made)
    chosen = allot(made, budget)
    assert sum(bits[w] for (bits, _), w in zip(made, chosen, strict=True)) <= budget * (1 + 1e-9)
