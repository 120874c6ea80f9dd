"""Scores of classes begin behind a last layer that can give floats and end at an output."""

import pytest

from qcompile.passes.plan.patterns.scores import find
from tests.passes.plan.patterns.nets import graph, one, ops

HEAD = "(float[N, 4] x, float[N, 4, 1, 1] p, float[N, 3, 4] r, float[N, 4, 2, 2] m) => (float[] y"
WEIGHTS = {"w": (4, 5), "c": (5, 4, 1, 1), "k": (5, 4, 2, 2), "g": (4, 1, 1, 1)}


@pytest.mark.parametrize(
    ("body", "eased"),
    [
        ("a = Gemm(x, w)  y = Softmax(a)", ["Softmax"]),
        ("a = MatMul(x, w)  y = Sigmoid(a)", ["Sigmoid"]),
        ("a = Conv(p, c)  b = Flatten(a)  y = LogSoftmax(b)", ["Flatten", "LogSoftmax"]),
        ("a = Conv(p, c)  b = Softmax<axis = 1>(a)  y = Flatten(b)", ["Softmax", "Flatten"]),
        ("a = Conv(p, c)  y = Flatten(a)", ["Flatten"]),
    ],
)
def test_what_stands_behind_the_last_layer(body: str, eased: list[str]) -> None:
    assert one(find, graph(f"{HEAD})", body, WEIGHTS)) == (eased, eased)


@pytest.mark.parametrize(
    "body",
    [
        "y = Gemm(x, w)",
        "y = Softmax(x)",
        "a = MatMul(r, w)  y = Softmax(a)",
        "a = Conv(m, c)  y = Flatten(a)",
        "a = Conv(m, k)  y = Flatten(a)",
        "a = Conv<group = 4>(p, g)  y = Flatten(a)",
        "a = Gemm(x, w)  b = Relu(a)  y = Softmax(b)",
        "a = Gemm(x, w)  b = Sigmoid(a)  y = Softmax(b)",
        "a = Gemm(x, w)  s = Sigmoid(a)  y = Mul(a, s)",
    ],
    ids=[
        "nothing behind it", "no layer", "many rows", "many positions", "many taps", "groups",
        "another function", "two functions", "read twice",
    ],
)  # fmt: skip
def test_what_is_none(body: str) -> None:
    assert find(graph(f"{HEAD})", body, WEIGHTS)) == []


def test_logits_that_are_given_out_as_well_are_left() -> None:
    body = "a = Gemm(x, w)  y = Softmax(a)"
    assert find(graph(f"{HEAD}, float[] a)", body, WEIGHTS)) == []


def test_one_for_each_output() -> None:
    body = "a = Gemm(x, w)  y = Softmax(a)  b = Conv(p, c)  z = Flatten(b)"
    found = find(graph(f"{HEAD}, float[] z)", body, WEIGHTS))
    assert [ops(p.nodes) for p in found] == [["Softmax"], ["Flatten"]]
