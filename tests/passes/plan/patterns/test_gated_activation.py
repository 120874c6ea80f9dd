"""SiLU and HardSwish have their names; a gate of another value is none of them."""

from qcompile.passes.plan.patterns.gated_activation import find
from tests.passes.plan.patterns.nets import graph, ops

HEAD = "(float[1, 4] x, float[1, 4] z) => (float[1, 4] y)"


def test_each_form() -> None:
    body = """a = HardSwish(x)  g = Sigmoid(a)  b = Mul(a, g)  h = HardSigmoid(b)  c = Mul(h, b)
              other = Sigmoid(z)  y = Mul(c, other)"""
    found = find(graph(HEAD, body, {}))
    assert [(p.name, ops(p.nodes), p.eased) for p in found] == [
        ("HardSwish", ["HardSwish"], ()),
        ("SiLU", ["Sigmoid", "Mul"], ()),
        ("HardSwish", ["HardSigmoid", "Mul"], ()),
    ]
