"""The scale and zero point of a group: no worse than those of its range, codes in range."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.numerics.affine import SMALLEST_SCALE
from qcompile.core.numerics.grouped import from_codes, group_params, to_codes
from qcompile.passes.rounding.group_scales import centred, fit_group

BITS = st.sampled_from((2, 3, 4, 8))


def _error(weight: np.ndarray, scale: np.ndarray, zero: np.ndarray, bits: int) -> np.ndarray:
    wrong = centred(weight, scale, zero, bits) * scale - weight
    return np.sum(wrong.astype(np.float64) ** 2, axis=0)


@settings(max_examples=60, deadline=None)
@given(
    BITS, st.booleans(), st.integers(1, 40), st.integers(0, 2**31), st.floats(-3, 3), st.booleans()
)
def test_no_worse_than_the_whole_range(
    bits: int, symmetric: bool, rows: int, seed: int, shift: float, heavy: bool
) -> None:
    """Also where all weights have one sign, or a few are far out."""
    random = np.random.default_rng(seed)
    weight = random.standard_normal((rows, 7)) ** (3 if heavy else 1) + shift
    weight = weight.astype(np.float32)
    scale, zero = fit_group(weight, None, bits, symmetric=symmetric)
    params = group_params(weight, bits, rows, symmetric)
    whole = from_codes(to_codes(weight, params, bits, rows), params, rows) - weight
    allowed = np.sum(whole.astype(np.float64) ** 2, axis=0)
    assert (_error(weight, scale, zero, bits) <= allowed * (1 + 1e-4) + 1e-9).all()
    assert (zero == np.rint(zero)).all()
    assert (zero >= 0).all()
    assert (zero < 2**bits).all()
    assert scale.dtype == np.float32
    assert (np.abs(scale) >= SMALLEST_SCALE).all()
    assert symmetric or (scale > 0).all()


@pytest.mark.parametrize("symmetric", [False, True])
def test_weights_on_a_grid_are_kept(symmetric: bool) -> None:
    """Where codes can hold a group exactly, they do."""
    codes = np.array([[0, 5, 15, 8, 3], [15, 2, 0, 8, 9]], np.float32).T
    weight = ((codes - 8) * np.float32(0.125)).astype(np.float32)
    scale, zero = fit_group(weight, None, 4, symmetric=symmetric)
    assert np.allclose(centred(weight, scale, zero, 4) * scale, weight, atol=1e-6)


def test_important_rows_count_more() -> None:
    """Two bits cannot hold both; the row that counts is kept."""
    random = np.random.default_rng(3)
    weight = random.standard_normal((16, 50)).astype(np.float32)
    importance = np.where(np.arange(16) == 4, 1e4, 1.0)
    plain = fit_group(weight, None, 2, symmetric=False)
    scale, zero = fit_group(weight, importance, 2, symmetric=False)

    def wrong(scale: np.ndarray, zero: np.ndarray) -> float:
        return float(np.abs(centred(weight, scale, zero, 2) * scale - weight)[4].mean())

    assert wrong(scale, zero) < 0.5 * wrong(*plain)


def test_zeros_get_a_usable_scale() -> None:
    """A group of zeros, and one without rows that count, store zeros."""
    weight = np.zeros((8, 3), np.float32)
    for symmetric in (False, True):
        scale, zero = fit_group(weight, np.zeros(8), 4, symmetric=symmetric)
        assert np.isfinite(scale).all()
        assert (scale != 0).all()
        assert not centred(weight, scale, zero, 4).any()
