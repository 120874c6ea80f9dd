"""MinMax is exact, split-independent, and stops at NaN."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompile.core.statistics.base import NotFiniteError
from qcompile.core.statistics.min_max import MinMax
from tests.core.statistics.splits import FINITE, assert_split_independent, gather, sequences

ARRAYS = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=3, max_side=4, min_side=0),
    elements=st.floats(width=32, **FINITE),
)


@given(sequences(ARRAYS), st.integers(0, 2**32 - 1))
def test_any_split(samples: list[np.ndarray], seed: int) -> None:
    found = assert_split_independent(MinMax, samples, seed)
    every = np.concatenate([s.ravel() for s in samples])
    if every.size:
        assert (found.low, found.high) == (every.min(), every.max())
    else:
        assert (found.low, found.high) == (0, 0)


def test_negative_zero_is_zero_in_any_order() -> None:
    zeros = [np.float32([0.0]), np.float32([-0.0])]
    for seed in range(8):
        assert_split_independent(MinMax, zeros, seed)


def test_nonnegative_has_its_minimum_at_zero() -> None:
    found = gather(lambda: MinMax(nonnegative=True), [np.float32([2, 5]), np.float32([3])])
    assert (found.low, found.high) == (0.0, 5.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 40, 99])
def test_not_finite(bad: float, where: int) -> None:
    sample = np.zeros(100, np.float32)
    sample[where] = bad
    with pytest.raises(NotFiniteError):
        MinMax().update(sample, 0)


def test_half_precision_and_integers() -> None:
    found = gather(MinMax, [np.float16([-65504, 65504]), np.int8([-128, 127])])
    assert (found.low, found.high) == (-65504.0, 65504.0)
