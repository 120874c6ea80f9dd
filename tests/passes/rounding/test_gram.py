"""Gram matrices are exact, the same for any number of threads, and blind to how zero is stored."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.passes.rounding import gram as module
from qcompile.passes.rounding.gram import gram
from qcompile.passes.rounding.windows import inputs_of_outputs
from tests.passes.prepare.checking import parse, rand


def conv(attributes: str, *shape: int) -> ir.Node:
    text = f"g (float[1, 4, 9, 7] x) => (float[] y) {{ y = Conv <{attributes}> (x, w) }}"
    (node,) = parse(text, {"w": rand(*shape)}).graph
    return node


def naive(samples, zero, node, groups):
    """X X^T and the sums in whole numbers."""
    columns = [
        inputs_of_outputs(x.astype(np.int64) - zero, node, (3, 3), groups, 0) for x in samples
    ]
    x = np.concatenate(columns, axis=2)
    return np.einsum("gkr,glr->gkl", x, x), x.sum(axis=2), x.shape[2]


def samples_of(dtype, count=9):
    rng = np.random.default_rng(5)
    info = np.iinfo(dtype)
    shape = (1, 4, 9, 7)
    return [rng.integers(info.min, info.max, shape, dtype, endpoint=True) for _ in range(count)]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 0), (np.uint8, 131), (np.int8, -3)])
@pytest.mark.parametrize(("groups", "shape"), [(1, (6, 4, 3, 3)), (4, (4, 1, 3, 3))])
def test_it_is_exact(groups, shape, dtype, zero, threads):
    node, samples = conv(f"group = {groups}, pads = [1, 1, 1, 1]", *shape), samples_of(dtype, 40)
    matrix, sums, rows = naive(samples, zero, node, groups)
    got = gram(samples, zero, node, (3, 3), groups, matrix.shape[1], threads)
    assert rows == got.rows == 40 * 63
    assert np.array_equal(got.matrix, matrix)
    assert np.array_equal(got.sums, sums)


def test_sixteen_bits_and_floats():
    node = conv("pads = [1, 1, 1, 1]", 6, 4, 3, 3)
    integers = samples_of(np.int16)
    matrix, sums, _ = naive(integers, 0, node, 1)
    for samples in (integers, [x.astype(np.float32) for x in integers]):
        got = gram(samples, 0, node, (3, 3), 1, 36)
        assert np.array_equal(got.matrix, matrix)
        assert np.array_equal(got.sums, sums)


def test_the_scatter_is_around_the_mean():
    node, samples = conv("strides = [1, 1]", 6, 4, 3, 3), samples_of(np.uint8)
    got = gram(samples, 128, node, (3, 3), 1, 36)
    x = np.concatenate([inputs_of_outputs(x, node, (3, 3), 1, 0) for x in samples], axis=2)[0]
    wanted = np.cov(x, bias=True) * x.shape[1]
    np.testing.assert_allclose(got.scatter()[0], wanted, rtol=1e-9)


def test_of_large_pictures_only_some_lines(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 100)
    monkeypatch.setattr(module, "ROWS_AN_INPUT", 1)
    got = gram(samples_of(np.uint8), 0, conv("strides = [1, 1]", 6, 4, 3, 3), (3, 3), 1, 36)
    assert 50 <= got.rows <= 100


def test_no_samples():
    got = gram([], 0, conv("strides = [1, 1]", 6, 4, 3, 3), (3, 3), 1, 36)
    assert got.rows == 0
    assert not got.scatter().any()
