"""Stored integers of weights and biases, against exact rationals."""

from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from qcompile.core.numerics.affine import quantize
from qcompile.core.plan import QuantParams, ValuePlan
from qcompile.passes.rounding.nearest import bias_integers, weight_integers
from tests.passes.prepare.checking import rand

INT32 = 2**31 - 1
reals = st.floats(-(2.0**40), 2.0**40, width=32)


def params(scale: float) -> QuantParams:
    return QuantParams(np.asarray(scale, np.float32), np.asarray(0, np.int64))


@given(reals, st.floats(2.0**-60, 2.0**10, width=32), st.none() | reals)
@example(0.5, 1.0, None)
@example(1.5, 1.0, None)
@example(2.0**31, 1.0, None)
@example(-(2.0**40), 2.0**-20, 1.0)
def test_the_integer_of_a_bias_is_the_nearest_one(bias, scale, correction):
    given_correction = None if correction is None else np.asarray([correction], np.float32)
    stored = bias_integers(np.asarray([bias], np.float32), params(scale), given_correction)
    assert stored.dtype == np.int32
    exact = (Fraction(bias) + Fraction(correction or 0)) / Fraction(scale)
    exact = min(max(exact, -INT32 - 1), INT32)
    # float64 holds the sum and the quotient to 2**-52 of their size.
    size = max(abs(Fraction(bias)), abs(Fraction(correction or 0))) / Fraction(scale)
    assert abs(int(stored[0]) - exact) <= Fraction(1, 2) + size / 2**51


@given(st.integers(-INT32, INT32), st.floats(2.0**-40, 2.0**10, width=32))
def test_a_bias_on_its_grid_comes_back(integer, scale):
    bias = np.asarray([np.float64(integer) * np.float64(scale)])  # kept in float64: exact
    assert bias_integers(bias, params(scale), None).tolist() == [integer]


def test_a_scale_a_channel():
    scale = QuantParams(np.asarray([1.0, 0.5], np.float32), np.zeros(2, np.int64))
    stored = bias_integers(np.asarray([3, 3], np.float32), scale, np.asarray([1, -1], np.float32))
    assert stored.tolist() == [4, 4]


def test_a_weight_is_rounded_to_nearest_unless_integers_were_chosen():
    weight = rand(3, 4)
    scale = QuantParams(np.asarray([0.1, 0.2, 0.3], np.float32), np.zeros(3, np.int64))
    entry = ValuePlan("w", "weight", "int8", "channel", 0, params=scale)
    nearest = weight_integers(weight, entry, None)
    assert np.array_equal(nearest, quantize(weight, scale.scale, scale.zero_point, "int8", 0))
    chosen = np.zeros((3, 4), np.int8)
    assert weight_integers(weight, entry, chosen) is chosen
