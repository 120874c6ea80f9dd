"""Chains of Min, Max, Relu and Clip merge exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.passes.prepare.simplify_clip import SimplifyClip
from tests.passes.prepare.checking import changed, inits, ops, parse, run, unchanged

PASS = SimplifyClip()
LIMITS = {
    "zero": np.float32(0),
    "one": np.float32(1),
    "six": np.float32(6),
    "inf": np.float32(np.inf),
    "low": np.finfo(np.float32).min,
    "high": np.finfo(np.float32).max,
    "wide": np.zeros((1, 1, 1), np.float32),
    "vector": np.zeros(3, np.float32),
}


def steps(text: str):
    out = "float[1, N, 3]" if "wide" in text else "float[N, 3]"
    return parse(f"g (float[N, 3] x) => ({out} y) {{ {text} }}", LIMITS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y = Max(x, zero)", ["Relu"]),
        ("y = Max(zero, x)", ["Relu"]),
        ("y = Max(x, one)", ["Clip"]),
        ("y = Min(x, six)", ["Clip"]),
        ("a = Min(x, six) y = Max(a, zero)", ["Clip"]),
        ("a = Relu(x) y = Min(a, six)", ["Clip"]),
        ("a = Relu(x) y = Relu(a)", ["Relu"]),
        ("a = Relu(x) y = Clip(a, zero, six)", ["Clip"]),
        ("a = Clip(x, zero, six) y = Relu(a)", ["Clip"]),
        ("a = Clip(x, one, six) y = Relu(a)", ["Clip"]),
        ("a = Clip(x, zero, one) y = Clip(a, one, six)", ["Clip"]),
        ("a = Max(x, zero) b = Min(a, six) y = Max(b, one)", ["Clip"]),
        ("y = Clip(x, zero)", ["Relu"]),
        ("y = Clip(x, zero, inf)", ["Relu"]),
        ("y = Clip(x, zero, high)", ["Relu"]),
        ("a = Neg(x) y = Clip(a)", ["Neg"]),
        ("a = Neg(x) y = Clip(a, low, inf)", ["Neg"]),
    ],
)
def test_rules(text, expected):
    assert ops(changed(PASS, steps(text), tolerance=0)) == expected


def test_limits_are_scalars_and_used_again():
    model = changed(PASS, steps("a = Relu(x) y = Clip(a, zero, six)"))
    assert [v.name for v in model.graph[0].inputs] == ["x", "zero", "six"]
    model = changed(PASS, steps("a = Max(x, one) y = Min(a, six)"))
    assert all(inits(model)[v.name].shape == () for v in model.graph[0].inputs[1:])


@pytest.mark.parametrize(
    "text",
    [
        "y = Relu(x)",
        "y = Clip(x, zero, six)",
        "y = Clip(x, one)",
        "y = Max(x, wide)",
        "y = Max(x, vector)",
        "y = Max(x, zero, one)",
        "a = Neg(x) y = Max(x, a)",
        "y = Clip(x)",  # between a graph input and output
    ],
)
def test_left_alone(text):
    unchanged(PASS, steps(text))


def test_a_result_read_twice_is_not_merged():
    model = parse(
        """g (float[N, 3] x) => (float[N, 3] y, float[N, 3] z) {
          a = Relu(x)
          y = Clip(a, zero, six)
          z = Neg(a)
        }""",
        LIMITS,
    )
    unchanged(PASS, model)


def test_integers_are_left():
    model = parse(
        "g (int32[N, 3] x) => (int32[N, 3] y) { y = Max(x, c) }", {"c": np.array(0, np.int32)}
    )
    unchanged(PASS, model)


def test_computed_limits_are_left():
    unchanged(
        PASS, parse("g (float[N, 3] x, float l) => (float[N, 3] y) { y = Clip(x, l) }", LIMITS)
    )


numbers = st.floats(-4, 4, width=32).map(np.float32)


@settings(deadline=None, max_examples=40)
@given(a=numbers, b=numbers, c=numbers, d=numbers)
def test_two_clips_merge_exactly(a, b, c, d):
    constants = {"a": min(a, b), "b": max(a, b), "c": min(c, d), "d": max(c, d)}
    model = parse(
        "g (float[N, 3] x) => (float[N, 3] y) { t = Clip(x, a, b) y = Clip(t, c, d) }", constants
    )
    before = run(model, batch=32)
    assert PASS(model).modified
    assert len(ops(model)) == 1
    assert np.array_equal(before[0], run(model, batch=32)[0])
