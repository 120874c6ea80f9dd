"""Matrices that spread one channel over all: orthogonal, flat, the same everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.numerics.hadamard import factors, rotation, signs


@given(st.integers(1, 200), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_it_is_orthogonal_and_spreads(size: int, seed: int) -> None:
    matrix = rotation(size, seed)
    assert np.abs(matrix @ matrix.T - np.eye(size)).max() < 1e-12
    assert np.abs(matrix).max() <= np.sqrt(2 / size) + 1e-12


@pytest.mark.parametrize("size", [1, 2, 64, 256, 12, 20, 28, 36, 44, 60, 576, 640, 1536, 2304])
def test_entries_are_of_one_magnitude(size: int) -> None:
    magnitudes = np.abs(rotation(size, 3)) * np.sqrt(size)
    assert np.abs(magnitudes - 1).max() < 1e-12


@pytest.mark.parametrize("size", [1, 3, 10, 64, 640, 1536, 11008])
def test_factors_make_the_size_and_are_applied_one_after_the_other(size: int) -> None:
    a, b = factors(size)
    assert len(a) * len(b) == size
    if size > 2000:
        return
    x = np.random.default_rng(0).normal(size=size)
    apart = (a.T @ x.reshape(len(a), len(b)) @ b).reshape(-1)
    assert np.abs(apart - x @ np.kron(a, b)).max() < 1e-12


def test_signs_are_those_of_the_seed_for_good() -> None:
    assert signs(16, 1).tolist() == signs(32, 1)[:16].tolist()
    assert "".join("+-"[int(s < 0)] for s in signs(16, 1)) == EXPECTED
    assert signs(64, 1).tolist() != signs(64, 2).tolist()


EXPECTED = "--+-++-+-+--+-++"


def test_no_size_no_matrix() -> None:
    with pytest.raises(ValueError, match="size 0"):
        factors(0)
