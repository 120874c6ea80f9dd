"""What carries state between the ends of a model and its layers stays float; layers do not."""

import numpy as np
import pytest

from qcompile.compiler.kept_state import state_nodes
from tests.passes.prepare.checking import parse, rand

GATED = """g (float[1, 4] x, float[2, 4] h) => (float[1, 4] y, float[A, B] h_next) {
    first = Gather<axis = 0> (h, zero)
    a = MatMul (x, w)
    b = MatMul (first, w)
    t = Add (a, b)
    s = Sigmoid (t)
    m = Mul (s, first)
    h_next = Concat<axis = 0> (m, first)
    y = Relu (m)
}"""


def named(state: dict[str, str]) -> list[str]:
    model = parse(GATED, {"zero": np.array([0]), "w": rand(4, 4)})
    kept = state_nodes(model.graph, state)
    return [node.op_type for node in model.graph if node.name in kept]


def test_what_moves_or_gates_a_named_state() -> None:
    assert named({"h_next": "h"}) == ["Gather", "Mul", "Concat"]


def test_a_state_that_nobody_names_is_no_state() -> None:
    assert named({}) == []


@pytest.mark.parametrize("names", [{}, {"hn": "h"}])
def test_the_state_of_a_recurrent_layer_is_known_by_itself(names: dict[str, str]) -> None:
    model = parse(
        """g (float[1, 1, 4] x, float[1, 1, 4] h) => (float[A, B, C, D] y, float[E, F] hn) {
            h0 = Transpose<perm = [1, 0, 2]> (h)
            y, last = GRU<hidden_size = 4> (x, w, r, , , h0)
            hn = Squeeze (last, axes)
        }""",
        {"w": rand(1, 12, 4), "r": rand(1, 12, 4), "axes": np.array([0])},
    )
    kept = state_nodes(model.graph, names)
    assert [n.op_type for n in model.graph if n.name in kept] == ["Transpose", "Squeeze"]


def test_the_sequence_that_it_gives_is_no_state() -> None:
    model = parse(
        """g (float[3, 1, 4] x) => (float[A, B, C, D] z) {
            y, last = GRU<hidden_size = 4> (x, w, r)
            z = Transpose<perm = [1, 0, 2, 3]> (y)
        }""",
        {"w": rand(1, 12, 4), "r": rand(1, 12, 4)},
    )
    assert state_nodes(model.graph, {}) == {}
