"""Grids are forgotten, numbers are not."""

import numpy as np

from qcompile.passes.prepare.fold_constants import FoldConstants
from qcompile.passes.prepare.forget_grids import ForgetGrids
from tests.passes.prepare.checking import parse, run, unchanged


def test_grids_are_forgotten_and_numbers_stay():
    model = parse(
        "g (float[N, 3] x) => (float[N, 3] y) { w = DequantizeLinear(q, s) y = Mul(x, w) }",
        {"q": np.array([1, -2, 3], np.int8), "s": np.float32(0.1)},
    )
    FoldConstants()(model)
    before = run(model)[0]
    assert model.graph.initializers["w"].metadata_props
    assert ForgetGrids()(model).modified
    assert not model.graph.initializers["w"].metadata_props
    assert np.array_equal(run(model)[0], before)
    assert not ForgetGrids()(model).modified


def test_plain_constants_are_left():
    k = {"k": np.ones(3, np.float32)}
    unchanged(ForgetGrids(), parse("g (float[N, 3] x) => (float[N, 3] y) { y = Mul(x, k) }", k))
