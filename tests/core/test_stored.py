"""Which matrices can be stored: how each node reads its weight, and every reason why not."""

import numpy as np
import pytest

from qcompile.core.stored import Stored, as_columns, same_numbers, stored_weight
from tests.passes.prepare.checking import parse, rand

W = {"w": rand(8, 6), "v": rand(6, 8)}


def only(body: str, constants=W):
    model = parse(body, constants)
    return stored_weight(next(n for n in model.graph if n.op_type != "Transpose"))


@pytest.mark.parametrize(
    ("body", "axis", "rows", "columns"),
    [
        ("g (float[n, 8] x) => (float[n, 6] y) { y = MatMul (x, w) }", 0, 8, 6),
        ("g (float[n, t, 8] x) => (float[n, t, 6] y) { y = MatMul (x, w) }", 0, 8, 6),
        ("g (float[n, 8] x) => (float[n, 6] y) { y = Gemm (x, w) }", 0, 8, 6),
        ("g (float[n, 8] x) => (float[n, 6] y) { y = Gemm <transB = 1> (x, v) }", 1, 8, 6),
        ("g (int64[n] x) => (float[n, 6] y) { y = Gather (w, x) }", 1, 6, 8),
    ],
)
def test_k_by_n(body, axis, rows, columns):
    found = only(body)
    assert isinstance(found, Stored)
    assert (found.axis, found.rows, found.columns) == (axis, rows, columns)
    assert found.matrix().shape == (rows, columns)
    assert np.array_equal(as_columns(found.matrix(), found.axis), found.weight.const_value.numpy())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("g (float[8, n] x) => (float[6, n] y) { y = MatMul (v, x) }", "stands on the left"),
        ("g (float[n, 8] x, float[8, 6] z) => (float[n, 6] y) { y = MatMul (x, z) }", "computed"),
        ("g (float[8, n] x) => (float[n, 6] y) { y = Gemm <transA = 1> (x, w) }", "transposes"),
        ("g (float[n, 8] x) => (float[n, 6] y) { y = Gemm <alpha = 2.0> (x, w) }", "factors"),
        ("g (int64[n] x) => (float[8, n] y) { y = Gather <axis = 1> (w, x) }", "columns, not rows"),
        ("g (float[4, 4] t, int64[n] x) => (float[n, 4] y) { y = Gather (t, x) }", "the table it"),
        ("g (float[n, 8] x) => (float[n, 8] y) { y = Tanh (x) }", "Tanh reads no weight"),
    ],
)
def test_why_not(body, reason):
    found = only(body)
    assert isinstance(found, str)
    assert reason in found


def test_a_stack_of_matrices_and_integers_are_none():
    body = "g (float[2, n, 8] x) => (float[2, n, 6] y) { y = MatMul (x, w) }"
    assert "rank 3" in str(only(body, {"w": rand(2, 8, 6)}))
    body = "g (int64[n] x) => (int64[n, 6] y) { y = Gather (w, x) }"
    assert "not float32" in str(only(body, {"w": np.zeros((8, 6), np.int64)}))


@pytest.mark.parametrize("at", [(0, 0), (69, 0), (0, 79), (69, 79)])
def test_one_number_tells_matrices_apart(at):
    one = rand(70, 80)
    other = one.T.copy().T
    assert same_numbers(one, other)
    other[at] += 1
    assert not same_numbers(one, other)
    assert not same_numbers(one, one.T)
