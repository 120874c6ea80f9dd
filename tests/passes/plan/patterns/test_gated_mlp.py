"""Gated MLPs are found by their structure; what looks like one is none."""

import pytest

from qcompile.passes.plan.patterns.gated_mlp import NAME, find
from tests.passes.plan.patterns.nets import graph, ops

HEAD = "(float[2, 4] x, float[2, 8] z) => (float[2, 4] y)"
WEIGHTS = {"g": (4, 8), "u": (4, 8), "d": (8, 4), "b": (8,)}
SIDES = "a = MatMul(x, g)  c = MatMul(x, u)  "


@pytest.mark.parametrize(
    ("body", "eased"),
    [
        (SIDES + "s = Sigmoid(a)  h = Mul(a, s)  p = Mul(h, c)", ["Sigmoid", "Mul", "Mul"]),
        (SIDES + "s = Sigmoid(a)  h = Mul(s, a)  p = Mul(c, h)", ["Sigmoid", "Mul", "Mul"]),
        (SIDES + "h = Gelu(a)  p = Mul(h, c)", ["Gelu", "Mul"]),
        (
            "a0 = MatMul(x, g)  a = Add(a0, b)  c = MatMul(x, u)  h = Relu(a)  p = Mul(h, c)",
            ["Relu", "Mul"],
        ),
    ],
)
def test_each_form(body: str, eased: list[str]) -> None:
    (found,) = find(graph(HEAD, body + "  y = MatMul(p, d)", WEIGHTS))
    assert found.name == NAME
    assert ops(found.nodes) == eased
    assert found.eased == found.nodes


@pytest.mark.parametrize(
    "body",
    [
        SIDES + "p = Mul(a, c)  y = MatMul(p, d)",  # no activation
        SIDES + "s = Sigmoid(c)  h = Mul(a, s)  p = Mul(h, c)  y = MatMul(p, d)",  # gates another
        SIDES + "h = Gelu(a)  p = Mul(h, z)  y = MatMul(p, d)",  # the other side is no layer's
        SIDES + "h = Gelu(a)  p = Mul(h, c)  q = Relu(p)  y = MatMul(q, d)",  # no layer reads it
        SIDES + "h = Gelu(a)  p = Mul(h, c)  q = Neg(p)  r = Add(p, q)  y = MatMul(r, d)",
        "a = MatMul(x, g)  h = Gelu(a)  y = MatMul(h, d)",  # not gated
    ],
)
def test_what_is_none(body: str) -> None:
    assert find(graph(HEAD, body, WEIGHTS)) == []
