"""Codes a group: the round trip, its bound, short last groups, signed scales, fitted ranges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.numerics.grouped import (
    fitted_params,
    from_codes,
    group_count,
    group_params,
    to_codes,
)
from qcompile.core.plan import QuantParams


@st.composite
def cases(draw):
    rows, columns = draw(st.integers(1, 70)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    weight = rng.standard_normal((rows, columns)) * 10 ** draw(st.floats(-6, 6))
    weight += draw(st.sampled_from([0, 1, -3])) * np.abs(weight).max()
    bits, group = draw(st.sampled_from([2, 3, 4, 8])), draw(st.sampled_from([16, 32, 100]))
    return weight.astype(np.float32), bits, group, draw(st.booleans())


def by_hand(weight, params, bits, group):
    """The rule of the file, written element by element."""
    codes = np.zeros(weight.shape, np.int64)
    for k, n in np.ndindex(weight.shape):
        scale, zero = params.scale[k // group, n], params.zero_point[k // group, n]
        codes[k, n] = np.clip(np.rint(weight[k, n] / scale) + zero, 0, 2**bits - 1)
    return codes


@given(cases())
def test_the_rule_a_group_and_column(case):
    weight, bits, group, symmetric = case
    params = group_params(weight, bits, group, symmetric)
    shape = (group_count(weight.shape[0], group), weight.shape[1])
    assert params.scale.shape == params.zero_point.shape == shape
    assert params.scale.dtype == np.float32
    assert params.zero_point.dtype == np.int64
    codes = to_codes(weight, params, bits, group)
    assert codes.dtype == np.uint8
    assert np.array_equal(codes, by_hand(weight, params, bits, group))
    each = np.repeat(params.scale, group, axis=0)[: len(weight)]
    zero = np.repeat(params.zero_point, group, axis=0)[: len(weight)]
    back = from_codes(codes, params, group)
    assert np.array_equal(back, (codes - zero).astype(np.float32) * each)
    # Nothing is off by more than half a step, but for the side a symmetric range has less of, and
    # for the rounding of an asymmetric zero point.
    assert np.all(np.abs(back - weight) <= np.abs(each) * 1.001)


@given(cases())
def test_what_was_read_back_is_stored_as_the_same_codes(case):
    weight, bits, group, symmetric = case
    params = group_params(weight, bits, group, symmetric)
    codes = to_codes(weight, params, bits, group)
    again = to_codes(from_codes(codes, params, group), params, bits, group)
    assert np.array_equal(again, codes)


@given(cases())
def test_fitting_never_makes_the_squared_error_larger(case):
    weight, bits, group, symmetric = case
    importance = np.linspace(1, 3, weight.shape[0]).astype(np.float32)

    def error(params: QuantParams) -> np.ndarray:
        back = from_codes(to_codes(weight, params, bits, group), params, group)
        wrong = importance[:, None] * (back.astype(np.float64) - weight) ** 2
        return np.add.reduceat(wrong, np.arange(0, len(weight), group), axis=0)

    plain = error(group_params(weight, bits, group, symmetric))
    fitted = error(fitted_params(weight, bits, group, symmetric, importance))
    assert np.all(fitted <= plain * (1 + 1e-4))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_symmetric_group_gives_its_farthest_entry_the_lowest_code(sign):
    weight = sign * np.asarray([[4.0], [-3.5], [1.0], [0.0]], np.float32)
    params = group_params(weight, 4, 16, symmetric=True)
    assert params.scale[0, 0] == -sign * 0.5
    assert to_codes(weight, params, 4, 16)[:, 0].tolist() == [0, 15, 6, 8]
    assert np.array_equal(from_codes(to_codes(weight, params, 4, 16), params, 16), weight)


def test_zeros_stay_zeros():
    weight = np.zeros((5, 2), np.float32)
    for symmetric in (True, False):
        params = fitted_params(weight, 4, 2, symmetric)
        assert np.all(np.isfinite(params.scale) & (params.scale != 0))
        assert not from_codes(to_codes(weight, params, 4, 2), params, 2).any()


def test_clipping_one_large_weight_of_many_small_ones():
    weight = np.full((64, 1), 0.4, np.float32)
    weight[0] = 2.0
    weight[1::2] *= -1
    plain, fitted = (make(weight, 2, 64, False) for make in (group_params, fitted_params))
    errors = [
        float(((from_codes(to_codes(weight, p, 2, 64), p, 64) - weight) ** 2).sum())
        for p in (plain, fitted)
    ]
    assert errors[1] < 0.7 * errors[0]


def test_many_columns_are_cut_into_runs_with_the_same_result(monkeypatch):
    weight = np.random.default_rng(0).standard_normal((40, 33)).astype(np.float32)
    whole = fitted_params(weight, 3, 16, True)
    codes = to_codes(weight, whole, 3, 16)
    monkeypatch.setattr("qcompile.core.numerics.parts.AT_A_TIME", 200)
    parts = fitted_params(weight, 3, 16, True)
    assert parts.same_as(whole)
    assert np.array_equal(to_codes(weight, parts, 3, 16), codes)
    assert np.array_equal(from_codes(codes, parts, 16), from_codes(codes, whole, 16))


@given(st.integers(2, 8), st.integers(1, 40), st.sampled_from([4, 16, 64]), st.integers(0, 99))
def test_narrow_codes_begin_at_one(bits: int, rows: int, group: int, seed: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)
    params = fitted_params(weight, bits, group, symmetric=True, narrow=True)
    codes = to_codes(weight, params, bits, group, narrow=True)
    assert codes.min() >= 1
    assert (params.scale > 0).all()
    assert (params.zero_point == 1 << (bits - 1)).all()
    wrong = np.abs(from_codes(codes, params, group) - weight)
    assert wrong.max() <= np.abs(weight).max()
