"""First layers read an input of the model, moved or scaled by constants."""

import pytest

from qcompile.passes.plan.patterns.first_layer import find
from tests.passes.plan.patterns.nets import graph, one, ops

HEAD = "(float[1, 6, 6, 3] x, int64[1, 4] ids) => (float[] y)"
WEIGHTS = {"w": (8, 3, 3, 3), "v": (8, 8, 3, 3), "mean": (3,), "m": (4, 5), "table": (9, 4)}


@pytest.mark.parametrize("front", ["", "Mul", "Sub"])
def test_behind_a_transpose_and_a_normalization(front: str) -> None:
    scaled = f"n = {front}(x, mean)" if front else "n = Mul(x, mean)"
    body = f"{scaled}  t = Transpose<perm = [0, 3, 1, 2]>(n)  a = Conv(t, w)  y = Conv(a, v)"
    nodes, eased = one(find, graph(HEAD, body, WEIGHTS))
    assert nodes == eased == ["Conv"]


def test_two_layers_may_read_one_input() -> None:
    body = """t = Transpose<perm = [0, 3, 1, 2]>(x)  a = Conv(t, w)  b = Conv(t, w)
              r = Relu(b)  s = Add(a, r)  y = Conv(s, v)"""
    found = find(graph(HEAD, body, WEIGHTS))
    assert [p.nodes for p in found] == [("Conv_1",), ("Conv_2",)]


@pytest.mark.parametrize(
    "body",
    [
        "e = Gather(table, ids)  y = MatMul(e, m)",  # tokens are no floats
        "t = Transpose<perm = [0, 3, 1, 2]>(x)  e = Exp(t)  y = Conv(e, w)",
        "f = Cast<to = 1>(ids)  y = MatMul(f, m)",
    ],
)
def test_what_is_none(body: str) -> None:
    assert find(graph(HEAD, body, WEIGHTS)) == []
    assert ops(["Conv_1"]) == ["Conv"]
