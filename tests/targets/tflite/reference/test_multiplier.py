"""The roundings against exact rationals and Python's integers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.targets.tflite.reference.multiplier import (
    Multiplier,
    divide_by_power,
    double_rounding,
    float_rule,
    half_away,
    half_up_rounding,
    high_multiply,
    quantize_multiplier,
    single_rounding,
    wide,
)

INT32 = st.integers(-(2**31), 2**31 - 1)
SUMS = st.integers(1 - 2**23, 2**23 - 1)
"""What no multiplier of ``REALS`` shifts out of 32 bits."""
REALS = st.one_of(
    st.floats(2.0**-33, 2.0**7, allow_subnormal=False),
    st.integers(-33, 6).map(lambda e: 2.0**e),
    st.integers(-33, 6).map(lambda e: math.nextafter(2.0**e, 0)),
)


def half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


def half_from_zero(x: Fraction) -> int:
    return half_up(x) if x >= 0 else -half_up(-x)


def one(value: int) -> np.ndarray:
    return np.asarray([value], np.int64)


@given(REALS)
def test_multiplier_is_the_nearest_of_31_bits(real: float) -> None:
    by = quantize_multiplier(real)
    q, e = int(by.q), int(by.e)
    if q == 0:
        assert (e, real < 2.0**-32 * (1 + 2.0**-31)) == (0, True)
        return
    assert 2**30 <= q < 2**31
    assert e >= -31
    step = Fraction(2) ** (e - 31)
    assert abs(q * step - Fraction(real)) <= step / 2


def test_multiplier_that_rounds_up_to_a_power() -> None:
    by = quantize_multiplier(math.nextafter(1.0, 0.0))
    assert (int(by.q), int(by.e)) == (2**30, 1)


@given(st.lists(REALS, min_size=1, max_size=5))
def test_multipliers_of_channels(reals: list[float]) -> None:
    together = quantize_multiplier(np.asarray(reals))
    alone = [quantize_multiplier(real) for real in reals]
    assert together.q.tolist() == [int(by.q) for by in alone]
    assert together.e.tolist() == [int(by.e) for by in alone]


@given(INT32, INT32)
def test_high_multiply(a: int, b: int) -> None:
    nudged = a * b + (2**30 if a * b >= 0 else 1 - 2**30)
    truncated = abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)
    expected = 2**31 - 1 if a == b == -(2**31) else truncated
    assert high_multiply(one(a), b).tolist() == [expected]


@given(INT32, st.integers(0, 31))
def test_divide_by_power(x: int, exponent: int) -> None:
    exact = Fraction(x, 2**exponent)
    assert divide_by_power(one(x), exponent).tolist() == [half_from_zero(exact)]


@given(SUMS, REALS)
def test_double_rounding(x: int, real: float) -> None:
    by = quantize_multiplier(real)
    q, e = int(by.q), int(by.e)
    high = half_up(Fraction(x * 2 ** max(e, 0) * q, 2**31))
    assert double_rounding(one(x), by).tolist() == [half_from_zero(Fraction(high, 2 ** max(-e, 0)))]
    assert half_up_rounding(one(x), by).tolist() == [half_up(Fraction(high, 2 ** max(-e, 0)))]


def test_a_shift_out_of_32_bits_wraps() -> None:
    by = quantize_multiplier(64.0)  # 2**30, shifted to the left by 7
    assert double_rounding(one(2**24 - 1), by).tolist() == [2**30 - 64]
    assert double_rounding(one(2**24), by).tolist() == [-(2**30)]


@given(SUMS, REALS)
def test_roundings_stay_near_the_product(x: int, real: float) -> None:
    by = quantize_multiplier(real)
    exact = x * int(by.q) * Fraction(2) ** (int(by.e) - 31)
    assert abs(double_rounding(one(x), by)[0] - exact) < 1
    assert abs(single_rounding(one(x), by)[0] - exact) <= Fraction(1, 2)
    assert single_rounding(one(x), by)[0] == half_up(exact)


@given(SUMS, st.floats(2.0**-20, 2.0**6))
def test_a_negative_multiplier_negates(x: int, real: float) -> None:
    positive = double_rounding(one(x), quantize_multiplier(real))
    assert (double_rounding(one(x), quantize_multiplier(-real)) == -positive).all()


@given(st.integers(-(2**47), 2**47 - 1), st.floats(2.0**-31, 2.0**7))
def test_wide(x: int, real: float) -> None:
    by = quantize_multiplier(real)
    q, e = int(by.q), int(by.e)
    reduced = 0x7FFF if q >= 0x7FFF0000 else half_up(Fraction(q, 2**16))
    assert wide(one(x), by).tolist() == [half_up(x * reduced * Fraction(2) ** (e - 15))]


@given(st.integers(-(2**24), 2**24), st.floats(2.0**-20, 1.0, width=32))
def test_float_rule_is_one_product_rounded_twice(x: int, scale: float) -> None:
    product = Fraction(x) * Fraction(scale)
    as_single = Fraction(float(np.float32(float(product))))
    exact_in_double = Fraction(float(product)) == product
    if exact_in_double:  # the double is then what float32 rounds, once
        assert float_rule(one(x), np.float32(scale)).tolist() == [round(as_single)]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@given(x=st.floats(-1e6, 1e6, width=32))
def test_half_away(kind: type, x: float) -> None:
    assert half_away(np.asarray([x], kind)).tolist() == [half_from_zero(Fraction(x))]


@pytest.mark.parametrize(
    ("x", "expected"),
    [(0.5, 1), (-0.5, -1), (1.5, 2), (-2.5, -3), (float(np.nextafter(0.5, 0)), 0), (-0.25, 0)],
)
def test_half_away_at_halves(x: float, expected: int) -> None:
    assert half_away(np.asarray([x])).tolist() == [expected]


def test_no_multiplier() -> None:
    nothing = Multiplier(np.asarray(0), np.asarray(0))
    assert double_rounding(one(1000), nothing).tolist() == [0]
