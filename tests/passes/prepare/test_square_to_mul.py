"""Squares become products, but for those of a norm."""

import numpy as np
import pytest

from qcompile.passes.prepare.square_to_mul import SquareToMul
from tests.passes.prepare.checking import changed, ops, parse, unchanged

PASS = SquareToMul()


def net(text: str, k, kind: str = "float"):
    constants = {"k": k, "one": np.asarray([1])}
    return parse(f"g ({kind}[N, 3] x) => ({kind}[] y) {{ {text} }}", constants)


@pytest.mark.parametrize("k", [np.float32(2), np.int64(2), np.float32([2])])
def test_a_square_is_a_product(k):
    model = changed(PASS, net("y = Pow(x, k)", np.asarray(k)), tolerance=0)
    assert ops(model) == ["Mul"]
    assert [v.name for v in model.graph[0].inputs] == ["x", "x"]


@pytest.mark.parametrize(
    ("text", "k"),
    [
        ("y = Pow(x, k)", np.float32(3)),
        ("y = Pow(x, k)", np.float32([2, 2, 3])),
        ("y = Pow(k, x)", np.float32(2)),
        ("y = Pow(x, x)", np.float32(2)),
        ("y = Pow(x, k)", np.full((1, 1, 1), 2, np.float32)),
        ("s = Pow(x, k) y = ReduceMean(s, one)", np.float32(2)),
        ("s = Pow(x, k) y = ReduceSum(s, one)", np.float32(2)),
        ("s = Pow(x, k) y = Sqrt(s)", np.float32(2)),
        ("s = Pow(x, k) t = Pow(x, k) u = Add(s, t) y = Sqrt(u)", np.float32(2)),
    ],
)
def test_left_alone(text, k):
    unchanged(PASS, net(text, np.asarray(k)))


def test_integers_are_left():
    unchanged(PASS, net("y = Pow(x, k)", np.asarray(2, np.int32), "int32"))
