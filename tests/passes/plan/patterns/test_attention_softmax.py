"""Attention is a Softmax between two MatMuls of computed values, with what scales and masks it."""

import onnx_ir as ir
import pytest

from qcompile.passes.plan.patterns.attention_softmax import LONGEST, find
from tests.passes.plan.patterns.nets import graph, one

HEAD = (
    "(float[1, 2, 5, 4] q, float[1, 2, 4, 5] k, float[1, 2, 5, 4] v, float[1, 1, 1, 5] mask) "
    "=> (float[1, 2, 5, 4] y)"
)


def net(body: str) -> ir.Graph:
    return graph(HEAD, body, {"c": (), "w": (4, 5), "m": (1, 1, 5, 5)})


def test_with_a_scale_and_a_computed_mask() -> None:
    body = """low = Mul(mask, c)  s = MatMul(q, k)  t = Mul(s, c)  u = Add(low, t)
              p = Softmax(u)  y = MatMul(p, v)"""
    nodes, eased = one(find, net(body))
    assert eased == ["Mul", "Add", "Softmax"], "what makes the mask is none of it"
    assert nodes == ["MatMul", *eased, "MatMul"]


def test_without_anything_between_and_with_a_cast_behind() -> None:
    _, eased = one(find, net("s = MatMul(q, k)  p = Softmax(s)  y = MatMul(p, v)"))
    assert eased == ["Softmax"]
    body = """s = MatMul(q, k)  d = Div(s, c)  u = Add(d, m)  p = Softmax(u)
              o = Cast<to = 1>(p)  y = MatMul(o, v)"""
    nodes, eased = one(find, net(body))
    assert eased == ["Div", "Add", "Softmax"]
    assert nodes == ["MatMul", *eased, "Cast", "MatMul"]


@pytest.mark.parametrize(
    "body",
    [
        "s = MatMul(q, w)  p = Softmax(s)  y = MatMul(p, v)",  # scores by a constant
        "s = MatMul(q, k)  p = Softmax(s)  e = Exp(p)  y = MatMul(e, v)",
        "s = MatMul(q, k)  e = Exp(s)  p = Softmax(e)  y = MatMul(p, v)",
        "s = MatMul(q, k)  p = Sigmoid(s)  y = MatMul(p, v)",
        "p = Softmax(v)  t = MatMul(q, k)  y = MatMul(t, p)",
    ],
)
def test_what_only_looks_like_it(body: str) -> None:
    assert find(net(body)) == []


def test_a_chain_has_an_end() -> None:
    def chain(length: int) -> ir.Graph:
        steps = "".join(f"s{i + 1} = Mul(s{i}, c)\n" for i in range(length))
        return net(f"s0 = MatMul(q, k)  {steps}  p = Softmax(s{length})  y = MatMul(p, v)")

    assert len(find(chain(LONGEST))) == 1
    assert find(chain(LONGEST + 1)) == []
