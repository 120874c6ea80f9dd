"""Equal nodes merge; nodes that only look alike do not."""

import numpy as np
import pytest

from qcompile.core.graph import sources
from qcompile.passes.prepare.merge_duplicates import MergeDuplicates
from tests.passes.prepare.checking import changed, ops, parse, rand, unchanged

PASS = MergeDuplicates()
CONSTANTS = {
    "one": np.float32(1), "same": np.float32(1), "two": np.float32(2), "vector": np.ones(1, "f4"),
    "w": rand(9, 9), "v": rand(9, 9),
}  # fmt: skip


def steps(text: str, out: str = "float[N, 9] y"):
    return parse(f"g (float[N, 9] x) => ({out}) {{ {text} }}", CONSTANTS)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a = Neg(x) b = Neg(x) y = Add(a, b)", 2),
        ("a = Add(x, one) b = Add(x, same) y = Add(a, b)", 2),
        ("a = Neg(x) b = Neg(x) c = Exp(a) d = Exp(b) y = Add(c, d)", 3),
        ("a = MatMul(x, w) b = MatMul(x, w) y = Add(a, b)", 2),
        ("a = Softmax<axis = 1>(x) b = Softmax<axis = 1>(x) y = Add(a, b)", 2),
    ],
)
def test_equal_nodes(text, count):
    model = changed(PASS, steps(text), tolerance=0)
    assert len(ops(model)) == count
    assert sources(model.graph[0])[0].startswith("n0_")
    assert len(sources(model.graph[0])) == 2


@pytest.mark.parametrize(
    "text",
    [
        "a = Add(x, one) b = Add(x, two) y = Add(a, b)",
        "a = Add(x, one) b = Add(x, vector) y = Add(a, b)",  # other shape
        "a = MatMul(x, w) b = MatMul(x, v) y = Add(a, b)",
        "a = Softmax<axis = 0>(x) b = Softmax<axis = 1>(x) y = Add(a, b)",
        "a = Sub(x, one) b = Sub(one, x) y = Add(a, b)",
        "a = RandomNormalLike(x) b = RandomNormalLike(x) y = Add(a, b)",
    ],
)
def test_left_alone(text):
    unchanged(PASS, steps(text))


def test_graph_outputs_stay():
    unchanged(PASS, steps("y = Neg(x) z = Neg(x)", "float[N, 9] y, float[N, 9] z"))


def test_nodes_with_subgraphs_stay():
    branch = "<then_branch = {} () => (float[N, 4] u{}) {{ u{} = Neg(x) }}, else_branch = {} () => "
    first = branch.format("t", 1, 1, "e") + "(float[N, 4] u2) { u2 = Exp(x) }>"
    other = branch.format("s", 3, 3, "f") + "(float[N, 4] u4) { u4 = Exp(x) }>"
    model = parse(
        f"""g (bool c, float[N, 4] x) => (float[N, 4] y) {{
          a = If(c) {first}
          b = If(c) {other}
          y = Add(a, b)
        }}"""
    )
    unchanged(PASS, model)
