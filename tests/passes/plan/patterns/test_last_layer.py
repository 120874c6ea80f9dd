"""Last layers have no other multiply-add behind them on the way to an output."""

from qcompile.passes.plan.patterns.last_layer import find
from tests.passes.plan.patterns.nets import graph, one

HEAD = "(float[1, 4] x) => (float[1, 4] y"
WEIGHTS = {"w": (4, 4), "v": (4, 4)}


def test_behind_it_are_activations_only() -> None:
    body = "a = MatMul(x, w)  b = Gemm(a, v)  r = Relu(b)  y = Softmax(r)"
    nodes, eased = one(find, graph(f"{HEAD})", body, WEIGHTS))
    assert nodes == eased == ["Gemm"]


def test_several_heads_and_features_that_are_given_out() -> None:
    body = """f = MatMul(x, w)  z = Relu(f)  a = Gemm(z, v)  b = MatMul(z, v)  s = Sigmoid(a)
              y = Add(s, b)"""
    found = find(graph(f"{HEAD}, float[1, 4] z)", body, WEIGHTS))
    assert [p.nodes for p in found] == [("Gemm_2",), ("MatMul_3",)], "z feeds other layers"


def test_without_a_layer_there_is_none() -> None:
    assert find(graph(f"{HEAD})", "y = Relu(x)", {})) == []
