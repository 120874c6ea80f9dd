"""Every node is named by the first pattern of the table that it is a part of."""

from qcompile.passes.plan.patterns.table import PATTERNS, pattern_names
from tests.passes.plan.patterns.nets import graph


def test_names_of_nodes() -> None:
    body = """a = Conv(x, w)  h = HardSwish(a)  p = GlobalAveragePool(h)  s = Conv(p, wa)
              i = Sigmoid(s)  r = Mul(s, i)  t = Conv(r, wb)  g = Sigmoid(t)  m = Mul(h, g)
              l = Relu(m)  y = Conv(l, v)"""
    weights = {"w": (8, 3, 1, 1), "wa": (2, 8, 1, 1), "wb": (8, 2, 1, 1), "v": (4, 8, 1, 1)}
    of = graph("(float[1, 3, 6, 6] x) => (float[1, 4, 6, 6] y)", body, weights)
    names = pattern_names(of)
    assert names == {
        "Conv_0": "first layer",
        "HardSwish_1": "HardSwish",
        **dict.fromkeys(
            ["GlobalAveragePool_2", "Conv_3", "Sigmoid_4", "Mul_5", "Conv_6", "Sigmoid_7", "Mul_8"],
            "squeeze-and-excite",
        ),
        "Conv_10": "last layer",
    }
    found = {p.name for find in PATTERNS.values() for p in find(of)}
    assert "SiLU" in found, "it is there, and named as a part of the block"
