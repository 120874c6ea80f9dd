"""Subtraction and exact division become Add and Mul, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.passes.prepare.sub_to_add import SubToAdd
from tests.passes.prepare.checking import changed, ops, parse, rand, run, unchanged

PASS = SubToAdd()


def steps(text: str, k=None, kind: str = "float"):
    constants = {"k": rand(3) if k is None else k}
    return parse(f"g ({kind}[N, 3] x) => ({kind}[N, 3] y) {{ {text} }}", constants)


@pytest.mark.parametrize(
    ("text", "k", "expected"),
    [
        ("y = Sub(x, k)", rand(3), "Add"),
        ("y = Add(k, x)", rand(3), "Add"),
        ("y = Mul(k, x)", rand(3), "Mul"),
        ("y = Div(x, k)", np.float32(2), "Mul"),
        ("y = Div(x, k)", np.array([0.5, -4, 2**20], np.float32), "Mul"),
    ],
)
def test_rules(text, k, expected):
    model = changed(PASS, steps(text, k), tolerance=0)
    assert ops(model) == [expected]
    assert model.graph[0].inputs[0].name == "x"


@pytest.mark.parametrize(
    ("text", "k"),
    [
        ("y = Add(x, k)", rand(3)),
        ("y = Sub(k, x)", rand(3)),
        ("y = Div(k, x)", rand(3)),
        ("y = Div(x, k)", np.array([2, 3, 4], np.float32)),
        ("y = Div(x, k)", np.array([2, 0, 4], np.float32)),
        ("y = Div(x, k)", np.array([2, np.inf, 4], np.float32)),
        ("y = Div(x, k)", np.float32(2**-127)),  # not normal
        ("y = Div(x, k)", np.float32(2**127)),  # its inverse is not normal
        ("y = Sub(x, x)", rand(3)),
    ],
)
def test_left_alone(text, k):
    unchanged(PASS, steps(text, k))


def test_integers_are_left():
    unchanged(PASS, steps("y = Sub(x, k)", np.array([1, 2, 3], np.int32), "int32"))


@settings(deadline=None, max_examples=30)
@given(exponent=st.integers(-126, 126), sign=st.sampled_from([-1, 1]))
def test_division_by_a_power_of_two_is_exact(exponent, sign):
    model = steps("y = Div(x, k)", np.float32(sign * 2.0**exponent))
    before = run(model, batch=16)
    assert PASS(model).modified
    assert np.array_equal(before[0], run(model, batch=16)[0])
