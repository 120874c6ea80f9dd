"""What parts take is found from sums of them; a guess stands where nothing says otherwise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.compiler.mixed.fit import DOUBT, Fit


@given(
    st.lists(st.floats(0.02, 0.5), min_size=3, max_size=3),
    st.lists(st.floats(0.02, 0.5), min_size=3, max_size=3),
)
def test_exact_sums_give_the_parts_whatever_the_guess(true, guess):
    names = ("a", "b", "c")
    fit = Fit(dict(zip(names, guess, strict=True)), 1.0)
    sums = [{"a": 1, "b": 1}, {"b": 2, "c": 1}, {"a": 1, "c": 1}]
    for parts in sums:
        total = sum(n * true[names.index(p)] for p, n in parts.items())
        fit.add(parts, total, 1e-6)
    solved = fit.solve()
    found = [solved.time(name) for name in names]
    np.testing.assert_allclose(found, true, atol=1e-3)
    assert solved.difference("a", "b")[1] < 1e-3


def test_without_a_time_the_guess_and_its_doubt_stand():
    solved = Fit({"a": 0.5, "b": 0.2}, 1.0).solve()
    assert solved.time("a") == pytest.approx(0.5)
    difference, deviation = solved.difference("a", "b")
    assert difference == pytest.approx(0.3)
    assert deviation == pytest.approx(DOUBT * np.hypot(0.5, 0.2), rel=1e-2)


def test_a_sure_time_weighs_more_than_a_doubtful_one():
    fit = Fit({"a": 0.5}, 1.0)
    fit.add({"a": 1}, 0.3, 0.001)
    fit.add({"a": 1}, 0.9, 0.3)
    assert fit.solve().time("a") == pytest.approx(0.3, abs=0.01)


def test_no_time_is_negative():
    fit = Fit({"a": 0.1, "b": 0.1}, 1.0)
    fit.add({"a": 1, "b": 1}, 0.1, 1e-4)
    fit.add({"b": 1}, 0.2, 1e-4)
    assert fit.solve().time("a") == 0.0
