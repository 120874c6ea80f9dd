"""How many pieces some nodes of a graph form."""

from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.pieces import count_pieces


def test_what_is_made_connects_and_what_is_read_does_not() -> None:
    a, b = (["x", "w"], ["a"]), (["a", "w"], ["b"])
    assert count_pieces([]) == 0
    assert count_pieces([a]) == 1
    assert count_pieces([a, b]) == 1
    assert count_pieces([a, (["x", "w"], ["c"])]) == 2, "an input and a constant that both read"
    assert count_pieces([a, (["c"], ["d"])]) == 2
    assert count_pieces([b, a]) == 1, "in any order"
    join = (["b", "e"], ["f"])
    assert count_pieces([a, b, (["y"], ["e"]), join]) == 1


@given(st.integers(1, 40), st.data())
def test_a_forest_has_as_many_pieces_as_nodes_less_edges(count: int, data: st.DataObject) -> None:
    parents = [data.draw(st.integers(-1, i - 1)) for i in range(count)]
    nodes = [([] if p < 0 else [p], [i]) for i, p in enumerate(parents)]
    order = data.draw(st.permutations(nodes))
    assert count_pieces(order) == sum(p < 0 for p in parents)
