"""The split is a partition, in order, and the same everywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.compiler.data.holdout import split_holdout
from qcompile.compiler.data.open import open_data
from tests.compiler.data.helpers import one_input


def numbered(count):
    return open_data(np.arange(count, dtype=np.float32).reshape(-1, 1), one_input("N", 1))


def members(data):
    return [int(data[i].feeds["input"][0, 0]) for i in range(len(data))]


@given(st.integers(8, 200), st.integers(0, 9), st.floats(0.05, 0.95))
def test_partition(count, seed, fraction):
    kept, held = split_holdout(numbered(count), seed=seed, fraction=fraction)
    assert held is not None
    inside, outside = members(kept), members(held)
    assert sorted(inside + outside) == list(range(count))
    assert inside == sorted(inside)
    assert outside == sorted(outside)
    assert len(outside) == min(max(round(count * fraction), 1), count - 1)


def test_it_never_changes():
    """The indices are part of what "the same inputs, the same bytes" means."""
    assert members(split_holdout(numbered(20))[1]) == [4, 7, 15, 18]
    assert members(split_holdout(numbered(20), seed=1)[1]) != [4, 7, 15, 18]


@pytest.mark.parametrize("count", [1, 7])
def test_small_sets_are_not_split(count):
    kept, held = split_holdout(numbered(count))
    assert held is None
    assert len(kept) == count


def test_labels_and_names():
    data = open_data((np.zeros((10, 1)), np.arange(10)), one_input("N", 1))
    kept, held = split_holdout(data)
    assert kept.has_labels
    assert held.has_labels
    assert held.name == "data (held out)"


@pytest.mark.parametrize("fraction", [0, 1, -1])
def test_fraction(fraction):
    with pytest.raises(ValueError, match="fraction"):
        split_holdout(numbered(10), fraction=fraction)
