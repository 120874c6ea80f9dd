"""The tree sum: its total depends on the set of samples and on nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.statistics.base import TreeSum


def expected(terms: dict[int, np.float32], level: int = 3, k: int = 0) -> np.float32 | None:
    """The fixed tree, written down recursively."""
    if level == 0:
        return terms.get(k)
    children = (expected(terms, level - 1, 8 * k + child) for child in range(8))
    present = [child for child in children if child is not None]
    return sum(present[1:], start=present[0]) if present else None


@given(
    st.sets(st.integers(0, 511), min_size=1, max_size=200),
    st.sets(st.integers(0, 511)),
    st.integers(0, 2**32 - 1),
)
def test_total_is_that_of_the_fixed_tree(present: set[int], absent: set[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    terms = {k: np.float32(random.normal() * 10.0 ** random.integers(-6, 6)) for k in present}
    parts = [TreeSum() for _ in range(3)]
    for k in random.permutation(sorted(present | absent)):
        term = np.array(terms[k]) if k in terms else None
        parts[random.integers(3)].add(term, int(k))
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    total = parts[0].total()
    assert total is not None
    assert total.tobytes() == np.float32(expected(terms)).tobytes()


def test_nothing_added_is_no_total() -> None:
    empty = TreeSum()
    assert empty.total() is None
    empty.add(None, 0)
    assert empty.total() is None


def test_a_sample_counts_once() -> None:
    tree = TreeSum()
    tree.add(np.ones(1), 4)
    with pytest.raises(ValueError, match="added twice"):
        tree.add(np.ones(1), 4)
    tree.add(np.ones(1), 0)
    with pytest.raises(ValueError, match="added twice"):
        tree.add(np.ones(1), 0)
    for twice in (0, 4):
        other = TreeSum()
        other.add(np.ones(1), twice)
        with pytest.raises(ValueError, match="added twice"):
            tree.merge(other)


def test_terms_and_parts_are_not_changed() -> None:
    ones = [np.ones(3) for _ in range(20)]
    first, second = TreeSum(), TreeSum()
    for k, term in enumerate(ones):
        (first if k < 12 else second).add(term, k)
    first.merge(second)
    assert np.array_equal(first.total(), np.full(3, 20.0))
    second.add(np.ones(3), 20)
    first.add(np.ones(3), 21)
    assert np.array_equal(first.total(), np.full(3, 21.0))
    assert np.array_equal(second.total(), np.full(3, 9.0))
    assert all(np.array_equal(term, np.ones(3)) for term in ones)


def test_few_arrays_are_kept() -> None:
    tree, most = TreeSum(), 0
    for k in np.arange(512).reshape(-1, 2)[:, ::-1].ravel():  # two workers: 1 0 3 2 5 4...
        tree.add(np.ones(1) if k % 3 else None, int(k))
        most = max(most, tree.held)
    assert most <= 4
