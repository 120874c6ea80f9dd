"""Ternary and binary groups: their scales against brute force, their codes against the nearest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.numerics.grouped import from_codes, to_codes
from qcompile.core.numerics.ternary import binary_codes, binary_params, ternary_params
from qcompile.core.plan import QuantParams


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ternary_codes(weight: np.ndarray, params: QuantParams, group: int) -> np.ndarray:
    return to_codes(weight, params, 2, group, narrow=True)


def best_of_three(column: np.ndarray, counts: np.ndarray) -> float:
    """The least error of any scale: the optimum is the mean of the n largest for some n."""
    sizes = np.abs(column.astype(np.float64))
    order = np.argsort(-sizes)
    errors = []
    for n in range(1, sizes.size + 1):
        kept, lost = order[:n], order[n:]
        scale = np.average(sizes[kept], weights=counts[kept])
        errors.append(
            (counts[kept] * (sizes[kept] - scale) ** 2).sum()
            + (counts[lost] * sizes[lost] ** 2).sum()
        )
    return float(min(errors))


@given(st.integers(1, 40), st.integers(1, 3), st.sampled_from([4, 16, 64]), st.integers(0, 99))
def test_ternary_is_optimal(rows: int, columns: int, group: int, seed: int) -> None:
    weight = rand(rows, columns, seed=seed)
    counts = np.random.default_rng(seed).uniform(0.5, 2, rows).astype(np.float32)
    params = ternary_params(weight, group, counts)
    assert params.scale.shape == (-(-rows // group), columns)
    assert (params.zero_point == 2).all()
    codes = ternary_codes(weight, params, group)
    assert set(np.unique(codes)) <= {1, 2, 3}
    wrong = (from_codes(codes, params, group).astype(np.float64) - weight) ** 2 * counts[:, None]
    for first in range(0, rows, group):
        part = slice(first, first + group)
        for column in range(columns):
            wanted = best_of_three(weight[part, column], counts[part])
            assert wrong[part, column].sum() == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_binary_is_the_sign_and_the_mean() -> None:
    weight = rand(48, 5)
    params = binary_params(weight, 32)
    codes = binary_codes(weight)
    assert set(np.unique(codes)) == {1, 3}
    real = from_codes(codes, params, 32)
    assert np.array_equal(np.sign(real), np.sign(weight))
    np.testing.assert_allclose(params.scale[0], np.abs(weight[:32]).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(params.scale[1], np.abs(weight[32:]).mean(axis=0), rtol=1e-6)


def test_zeros_stay_zeros() -> None:
    params = ternary_params(np.zeros((8, 2), np.float32), 4)
    assert (params.scale == 1).all()
    assert (ternary_codes(np.zeros((8, 2), np.float32), params, 4) == 2).all()
    assert (binary_params(np.zeros((8, 2), np.float32), 4).scale == 1).all()


def test_fewer_errors_than_textbook_absmean() -> None:
    weight = rand(256, 16)
    params = ternary_params(weight, 32)
    best = np.square(from_codes(ternary_codes(weight, params, 32), params, 32) - weight).sum()
    scale = np.abs(weight.reshape(8, 32, 16)).mean(axis=1, keepdims=True)
    plain = np.clip(np.rint(weight.reshape(8, 32, 16) / scale), -1, 1) * scale
    assert best < np.square(plain.reshape(weight.shape) - weight).sum()
