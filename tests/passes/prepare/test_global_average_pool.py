"""Means over space become pools; means over features do not."""

import numpy as np
import pytest

from qcompile.passes.prepare.global_average_pool import ReduceMeanToGlobalAveragePool
from tests.passes.prepare.checking import changed, ops, parse, rand, unchanged

PASS = ReduceMeanToGlobalAveragePool()


@pytest.mark.parametrize(
    ("shape", "axes", "out"),
    [
        ("N, 4, 5, 6", [2, 3], "N, 4, 1, 1"),
        ("N, 4, 5, 6", [-1, 2], "N, 4, 1, 1"),
        ("N, 4, 2, 5, 6", [2, -1, 3], "N, 4, 1, 1, 1"),
    ],
)
def test_kept_dimensions(shape, axes, out):
    model = parse(
        f"""g (float[{shape}] x) => (float[{out}] y) {{
          y = ReduceMean(x, axes)
        }}""",
        {"axes": np.array(axes)},
    )
    assert ops(changed(PASS, model)) == ["GlobalAveragePool"]


def test_dropped_dimensions():
    model = parse(
        """g (float[N, 4, 5, 6] x) => (float[N, 4] y) {
          y = ReduceMean<keepdims = 0>(x, axes)
        }""",
        {"axes": np.array([2, 3])},
    )
    assert ops(changed(PASS, model)) == ["GlobalAveragePool", "Flatten"]


def test_rank_3_behind_a_convolution():
    model = parse(
        """g (float[N, 3, 8] x) => (float[N, 4, 1] y) {
          c = Conv(x, w)
          r = Relu(c)
          y = ReduceMean(r, axes)
        }""",
        {"axes": np.array([-1]), "w": rand(4, 3, 3)},
    )
    assert ops(changed(PASS, model)) == ["Conv", "Relu", "GlobalAveragePool"]


@pytest.mark.parametrize(
    ("shape", "axes", "keep", "out"),
    [
        ("float[N, 4, 5]", [2], 1, "float[N, 4, 1]"),  # may be the features of a sequence
        ("float[N, 4, 5, 6]", [3], 1, "float[N, 4, 5, 1]"),
        ("float[N, 4, 5, 6]", [1, 2], 0, "float[N, 6]"),
        ("float[N, 4, 5, 6]", [1, 2, 3], 1, "float[N, 1, 1, 1]"),
        ("float[N, 5]", [1], 1, "float[N, 1]"),
        ("double[N, 4, 5, 6]", [2, 3], 1, "double[N, 4, 1, 1]"),
        ("int32[N, 4, 5, 6]", [2, 3], 1, "int32[N, 4, 1, 1]"),
    ],
)
def test_other_means_are_left(shape, axes, keep, out):
    model = parse(
        f"""g ({shape} x) => ({out} y) {{
          y = ReduceMean<keepdims = {keep}>(x, axes)
        }}""",
        {"axes": np.array(axes)},
    )
    unchanged(PASS, model)


def test_computed_axes_are_left():
    model = parse(
        """g (float[N, 4, 5, 6] x, int64[2] axes) => (float[A, B, C, D] y) {
          y = ReduceMean(x, axes)
        }"""
    )
    unchanged(PASS, model)


def test_mean_over_everything_is_left():
    unchanged(
        PASS,
        parse("g (float[N, 4, 5, 6] x) => (float[A, B, C, D] y) { y = ReduceMean(x) }"),
    )
