"""What contributes to no output goes; what a subgraph reads stays."""

from qcompile.passes.prepare.remove_unused import RemoveUnused
from tests.passes.prepare.checking import changed, inits, ops, parse, rand, unchanged

PASS = RemoveUnused()


def test_dead_chain_and_its_constants():
    model = parse(
        """g (float[N, 4] x) => (float[N, 4] y) {
          a = Mul(x, k)
          b = Relu(a)
          y = Add(x, j)
        }""",
        {"k": rand(4), "j": rand(4), "nobody": rand(4)},
    )
    changed(PASS, model, tolerance=0)
    assert ops(model) == ["Add"]
    assert list(inits(model)) == ["j"]


def test_a_node_with_one_used_output_is_left():
    model = parse(
        "g (float[N, 4] x) => (float[N, 2] y) { y, z = Split<axis = 1, num_outputs = 2>(x) }"
    )
    unchanged(PASS, model)


def test_what_a_subgraph_reads_is_left():
    model = parse(
        """g (bool c, float[N, 4] x) => (float[N, 4] y) {
          a = Relu(x)
          y = If(c) <
            then_branch = t () => (float[N, 4] u) { u = Add(a, k) },
            else_branch = e () => (float[N, 4] v) { v = Neg(a) }
          >
        }""",
        {"k": rand(4)},
    )
    unchanged(PASS, model)
