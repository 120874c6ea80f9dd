"""The tree sum: its total depends on the set of samples and on nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.statistics.base import TreeSum


def expected(terms: dict[int, np.float32], level: int = 6, k: int = 0) -> np.float32 | None:
    """The fixed tree, written down recursively."""
    if level == 0:
        return terms.get(k)
    left, right = (expected(terms, level - 1, 2 * k + side) for side in (0, 1))
    if left is None or right is None:
        return right if left is None else left
    return np.float32(left + right)


@given(
    st.sets(st.integers(0, 63), min_size=1),
    st.sets(st.integers(0, 63)),
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
    with pytest.raises(ValueError, match="sample 4 was added twice"):
        tree.add(np.ones(1), 4)


def test_few_nodes_are_alive() -> None:
    tree, most = TreeSum(), 0
    for k in range(256):
        tree.add(np.ones(1) if k % 3 else None, k)
        most = max(most, tree.held)
    assert most <= 9
