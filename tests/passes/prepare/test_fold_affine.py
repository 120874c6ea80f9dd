"""Constant steps after a layer fold exactly; everything that is not per channel is left."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.passes.prepare.fold_affine import FoldAffine
from tests.passes.prepare.checking import changed, inits, ops, parse, rand, unchanged

PASS = FoldAffine()


def depthwise(steps: str, **constants: np.ndarray):
    return parse(
        f"""g (float[N, 4, 6, 6] x) => (float[N, 4, 4, 4] y) {{
          c = Conv<group = 4>(x, w)
          {steps}
        }}""",
        {"w": rand(4, 1, 3, 3), **constants},
    )


@pytest.mark.parametrize(
    "steps",
    [
        "y = Mul(c, k)",
        "y = Mul(k, c)",
        "y = Div(c, k)",
        "y = Add(c, k)",
        "y = Add(k, c)",
        "y = Sub(c, k)",
        "y = Sub(k, c)",
        "a = Mul(c, k) y = Add(a, j)",
        "a = Add(c, j) y = Mul(a, k)",
        "a = Sub(j, c) b = Div(a, k) d = Mul(b, j) y = Sub(d, k)",
    ],
)
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (4, 1, 1), (), (1,), (1, 1, 1, 1)])
def test_steps_after_a_depthwise_conv(steps, shape):
    model = depthwise(steps, k=rand(*shape, seed=1) + 3, j=rand(*shape, seed=2))
    changed(PASS, model)
    assert ops(model) == ["Conv"]
    assert model.graph.outputs[0].name == "y"


def test_conv_transpose():
    model = parse(
        """g (float[N, 4, 5, 5] x) => (float[N, 6, 7, 7] y) {
          c = ConvTranspose<group = 2>(x, w, c0)
          a = Mul(c, k)
          y = Add(a, j)
        }""",
        {"w": rand(4, 3, 3, 3), "c0": rand(6), "k": rand(6, 1, 1), "j": rand(6, 1, 1, seed=3)},
    )
    changed(PASS, model)
    assert ops(model) == ["ConvTranspose"]


def test_gemm():
    model = parse(
        """g (float[N, 4] x) => (float[N, 6] y) {
          c = Gemm<transB = 1, alpha = 0.5, beta = 3.0>(x, w, c0)
          a = Mul(c, k)
          y = Add(a, j)
        }""",
        {"w": rand(6, 4), "c0": rand(6), "k": rand(6), "j": rand(1, 6, seed=3)},
    )
    changed(PASS, model)
    assert ops(model) == ["Gemm"]


def test_matmul_of_rank_2_becomes_gemm_and_the_weight_is_not_touched():
    model = parse(
        """g (float[N, 4] x) => (float[N, 6] y) {
          c = MatMul(x, w)
          y = Add(c, k)
        }""",
        {"w": rand(4, 6), "k": rand(6)},
    )
    changed(PASS, model)
    assert ops(model) == ["Gemm"]
    assert np.array_equal(inits(model)["w"], rand(4, 6))


def test_matmul_of_rank_3_takes_a_scale():
    model = parse(
        """g (float[N, 3, 4] x) => (float[N, 3, 6] y) {
          c = MatMul(x, w)
          y = Mul(c, k)
        }""",
        {"w": rand(4, 6), "k": rand(6)},
    )
    changed(PASS, model)
    assert ops(model) == ["MatMul"]


def test_matmul_of_rank_3_takes_no_shift():
    model = parse(
        """g (float[N, 3, 4] x) => (float[N, 3, 6] y) {
          c = MatMul(x, w)
          y = Add(c, k)
        }""",
        {"w": rand(4, 6), "k": rand(6)},
    )
    unchanged(PASS, model)


def test_shared_weight_is_copied():
    model = parse(
        """g (float[N, 4, 6, 6] x) => (float[N, 4, 4, 4] y, float[N, 4, 4, 4] z) {
          c = Conv(x, w)
          y = Mul(c, k)
          z = Conv(x, w)
        }""",
        {"w": rand(4, 4, 3, 3), "k": rand(4, 1, 1)},
    )
    changed(PASS, model)
    assert np.array_equal(inits(model)["w"], rand(4, 4, 3, 3))


@pytest.mark.parametrize(
    ("steps", "shape"),
    [
        ("y = Mul(c, k)", (4,)),  # along the width
        ("y = Mul(c, k)", (4, 1)),  # along the height
        ("y = Add(c, k)", (4, 4, 4)),  # all axes
        ("y = Add(c, k)", (2, 1, 1, 1)),  # along the batch
        ("y = Add(c, k)", (1, 1, 4, 1, 1)),  # raises the rank
        ("y = Div(k, c)", (4, 1, 1)),
        ("y = Mul(c, c)", (4, 1, 1)),
        ("y = Max(c, k)", (4, 1, 1)),
    ],
)
def test_what_is_no_affine_step_per_channel_is_left(steps, shape):
    text = "float[P, Q, 4, 4, 4] y" if len(shape) == 5 else "float[N, 4, 4, 4] y"
    model = parse(
        f"""g (float[N, 4, 6, 6] x) => ({text}) {{
          c = Conv<group = 4>(x, w)
          {steps}
        }}""",
        {"w": rand(4, 1, 3, 3), "k": rand(*shape)},
    )
    unchanged(PASS, model)


def test_one_channel_widened_by_the_constant_is_left():
    model = parse(
        """g (float[N, 3] x) => (float[N, 5] y) {
          c = Gemm(x, w)
          y = Add(c, k)
        }""",
        {"w": rand(3, 1), "k": rand(5)},
    )
    unchanged(PASS, model)


@pytest.mark.parametrize("bad", [0.0, np.inf, np.nan])
def test_division_that_is_not_finite_is_left(bad):
    k = np.array([1.0, bad, 2.0, 3.0], np.float32).reshape(4, 1, 1)
    unchanged(PASS, depthwise("y = Div(c, k)", k=k))


def test_output_read_twice_is_left():
    model = parse(
        """g (float[N, 4, 6, 6] x) => (float[N, 4, 4, 4] y, float[N, 4, 4, 4] z) {
          c = Conv(x, w)
          y = Mul(c, k)
          z = Relu(c)
        }""",
        {"w": rand(4, 4, 3, 3), "k": rand(4, 1, 1)},
    )
    unchanged(PASS, model)


def test_computed_weight_is_left():
    model = parse(
        """g (float[N, 4, 6, 6] x, float[4, 4, 3, 3] w) => (float[N, 4, 4, 4] y) {
          c = Conv(x, w)
          y = Mul(c, k)
        }""",
        {"k": rand(4, 1, 1)},
    )
    unchanged(PASS, model)


def test_computed_bias_is_left():
    model = parse(
        """g (float[N, 4, 6, 6] x, float[4] b) => (float[N, 4, 4, 4] y) {
          c = Conv(x, w, b)
          y = Mul(c, k)
        }""",
        {"w": rand(4, 4, 3, 3), "k": rand(4, 1, 1)},
    )
    unchanged(PASS, model)


@settings(deadline=None, max_examples=25)
@given(
    scale=st.lists(st.floats(2**-7, 100, width=32), min_size=4, max_size=4),
    shift=st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4),
)
def test_weight_and_bias_are_rounded_once(scale, shift):
    k = np.array(scale, np.float32).reshape(1, 4, 1, 1)
    j = np.array(shift, np.float32).reshape(1, 4, 1, 1)
    model = depthwise("a = Mul(c, k) y = Add(a, j)", k=k, j=j)
    assert PASS(model).modified
    constants = inits(model)
    exact = rand(4, 1, 3, 3).astype(np.float64) * k.reshape(4, 1, 1, 1).astype(np.float64)
    assert np.array_equal(constants["w"], exact.astype(np.float32))
    assert np.array_equal(constants["w.bias"], j.reshape(-1))
