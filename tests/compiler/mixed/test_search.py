"""The search for few layers: what it returns holds, is small, and costs few trials."""

from hypothesis import given
from hypothesis import strategies as st

from qcompile.compiler.mixed.search import OutOfTimeError, fewest

NAMES = [f"l{i}" for i in range(12)]


@st.composite
def damages(draw: st.DrawFn) -> tuple[list[str], dict[str, int], dict[str, int], int]:
    """Layers in some order with damages and costs, and how much damage may stay."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    damage = {name: draw(st.integers(0, 50)) for name in names}
    cost = {name: draw(st.integers(1, 9)) for name in names}
    order = draw(st.permutations(names))
    return list(order), damage, cost, draw(st.integers(0, 200))


@given(damages())
def test_what_is_found_holds_and_no_single_layer_of_it_can_go(
    case: tuple[list[str], dict[str, int], dict[str, int], int],
) -> None:
    ranked, damage, cost, limit = case
    tried: list[frozenset[str]] = []

    def holds(chosen: frozenset[str]) -> bool:
        tried.append(chosen)
        return sum(d for name, d in damage.items() if name not in chosen) <= limit

    found = fewest(ranked, {k: float(v) for k, v in cost.items()}, holds)
    assert found is not None, "with all of them float nothing is lost"
    assert holds(found)
    assert all(not holds(found - {name}) for name in found)
    assert len(tried) <= 5 * len(ranked) + 10


@given(damages())
def test_a_true_ranking_gives_the_fewest(
    case: tuple[list[str], dict[str, int], dict[str, int], int],
) -> None:
    _, damage, cost, limit = case
    ranked = sorted(damage, key=lambda name: -damage[name])

    def holds(chosen: frozenset[str]) -> bool:
        return sum(d for name, d in damage.items() if name not in chosen) <= limit

    found = fewest(ranked, {k: float(v) for k, v in cost.items()}, holds)
    shortest = next(k for k in range(len(ranked) + 1) if holds(frozenset(ranked[:k])))
    assert found is not None
    assert len(found) <= shortest


def test_none_when_not_even_all_suffice() -> None:
    assert fewest(NAMES, dict.fromkeys(NAMES, 1.0), lambda _: False) is None


def test_the_costly_ones_go_back_first() -> None:
    cost = {"a": 9.0, "b": 1.0, "c": 1.0}

    def holds(chosen: frozenset[str]) -> bool:
        return {"b", "c"} <= chosen or chosen == {"a", "b", "c"}

    assert fewest(["a", "b", "c"], cost, holds) == frozenset({"b", "c"})


def test_time_that_is_over_leaves_what_was_found() -> None:
    trials = 0

    def holds(chosen: frozenset[str]) -> bool:
        nonlocal trials
        trials += 1
        if trials > 5:
            raise OutOfTimeError
        return len(chosen) >= 7

    found = fewest(NAMES, dict.fromkeys(NAMES, 1.0), holds)
    assert found == frozenset(NAMES[:8]), "0, 1, 2, 4, 8 were tried"
    trials = 5
    assert fewest(NAMES, dict.fromkeys(NAMES, 1.0), holds) is None
