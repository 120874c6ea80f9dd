"""Squeeze-and-excite is found by structure, and what only looks like it is not."""

import onnx_ir as ir
import pytest

from qcompile.passes.plan.patterns.squeeze_excite import find
from tests.passes.plan.patterns.nets import graph, one

HEAD = "(float[1, 8, 6, 6] x, float[1, 8, 1, 1] other) => (float[1, 8, 6, 6] y)"
WEIGHTS = {"wa": (2, 8, 1, 1), "wb": (8, 2, 1, 1), "ma": (8, 2), "mb": (2, 8), "c": (8, 1, 1)}


def net(body: str) -> ir.Graph:
    return graph(HEAD, body, WEIGHTS)


BLOCK = ["GlobalAveragePool", "Conv", "Relu", "Conv", "HardSigmoid"]
INSIDE = "a = Relu(x)  p = GlobalAveragePool(a)  s = Conv(p, wa)  r = Relu(s)  t = Conv(r, wb)"


def test_convolutions_of_the_means() -> None:
    nodes, eased = one(find, net(f"{INSIDE}  g = HardSigmoid(t)  y = Mul(a, g)"))
    assert eased == BLOCK
    assert nodes == [*BLOCK, "Mul"]


def test_the_gate_may_come_first_and_the_activation_may_be_a_silu() -> None:
    body = """a = Relu(x)  p = GlobalAveragePool(a)  s = Conv(p, wa)  h = Sigmoid(s)  r = Mul(s, h)
              t = Conv(r, wb)  g = Sigmoid(t)  y = Mul(g, a)"""
    _, eased = one(find, net(body))
    assert eased == ["GlobalAveragePool", "Conv", "Sigmoid", "Mul", "Conv", "Sigmoid"]


def test_matrices_of_flattened_means() -> None:
    body = """p = GlobalAveragePool(x)  f = Flatten(p)  s = Gemm(f, ma)  r = HardSwish(s)
              t = MatMul(r, mb)  g = Sigmoid(t)
              to = Constant<value_ints = [1, 8, 1, 1]>()  e = Reshape(g, to)  y = Mul(x, e)"""
    _, eased = one(find, net(body))
    assert eased == [
        *("GlobalAveragePool", "Flatten", "Gemm", "HardSwish", "MatMul", "Sigmoid", "Reshape")
    ]


@pytest.mark.parametrize(
    "body",
    [
        f"{INSIDE}  g = HardSigmoid(t)  y = Mul(x, g)",  # means of something else
        f"{INSIDE}  y = Mul(a, t)",  # no gate
        "p = GlobalAveragePool(x)  g = Sigmoid(p)  y = Mul(x, g)",  # no layer
        "s = Conv(x, wa)  t = Conv(s, wb)  g = Sigmoid(t)  y = Mul(x, g)",  # no means
        f"{INSIDE}  u = Add(t, other)  g = Sigmoid(u)  y = Mul(a, g)",  # another input has a say
        "g = Sigmoid(c)  y = Mul(x, g)",
        "g = Sigmoid(other)  y = Mul(x, g)",
        "y = Mul(x, c)",
    ],
)
def test_what_only_looks_like_it(body: str) -> None:
    assert find(net(body)) == []
