"""The shared edits keep names, ends and constants of others as they are."""

import numpy as np

from qcompile.core.graph import unique_name, unique_node_name
from qcompile.passes.prepare.edit import bypass, is_constant, prune, set_constant
from tests.passes.prepare.checking import inits, ops, parse, rand


def model():
    return parse(
        """g (float[N, 3] x, float[3] given) => (float[N, 3] y) {
          a = Mul(x, k)
          b = Mul(a, k)
          c = Add(b, own)
          y = Add(c, given)
        }""",
        {"k": rand(3), "own": rand(3), "given": rand(3)},
    )


def test_own_constant_is_changed_in_place_and_forgets_its_grid():
    m = model()
    own = m.graph[2].inputs[1]
    assert own is not None
    own.metadata_props["qcompile.grid_scale"] = "0.5"
    set_constant(m.graph[2], 1, np.zeros((1, 3), np.float32))
    assert m.graph[2].inputs[1] is own
    assert inits(m)["own"].shape == (1, 3)
    assert own.shape is not None
    assert own.shape.numpy() == (1, 3)
    assert not own.metadata_props


def test_shared_constant_is_copied():
    m = model()
    set_constant(m.graph[1], 1, np.zeros(3, np.float32))
    assert [n.inputs[1].name for n in list(m.graph)[:2]] == ["k", "k_1"]
    assert np.array_equal(inits(m)["k"], rand(3))


def test_a_scalar_stays_a_scalar():
    m = model()
    set_constant(m.graph[2], 1, np.float32(1))
    assert inits(m)["own"].shape == ()


def test_initializers_that_are_inputs_are_no_constants():
    m = model()
    assert is_constant(m.graph[2].inputs[1])
    assert not is_constant(m.graph[3].inputs[1])
    set_constant(m.graph[3], 1, np.zeros(3, np.float32))
    assert np.array_equal(inits(m)["given"], rand(3))


def test_prune_names_what_it_removed_in_graph_order():
    m = model()
    last = m.graph[3]
    last.replace_input_with(0, m.graph.inputs[0])
    removed = prune([m.graph[2].outputs[0]])
    assert [node.name for node in removed] == ["n0_Mul", "n1_Mul", "n2_Add"]
    assert ops(m) == ["Add"]


def test_bypass_gives_the_name_of_an_output_on():
    m = model()
    assert bypass(m.graph[3], m.graph[2].outputs[0])
    assert [v.name for v in m.graph.outputs] == ["y"]
    assert m.graph[2].outputs[0] is m.graph.outputs[0]


def test_new_names_avoid_those_of_subgraphs():
    m = parse(
        """g (bool c, float[N, 4] x) => (float[N, 4] y) {
          y = If(c) <
            then_branch = t () => (float[N, 4] u) { u = Neg(x) },
            else_branch = e () => (float[N, 4] v) { v = Exp(x) }
          >
        }"""
    )
    inner = next(iter(m.graph[0].attributes["then_branch"].as_graph()))
    inner.name = "inside"
    assert unique_name(m.graph, "u") == "u_1"
    assert unique_name(m.graph, "u") == "u_2"
    assert unique_node_name(m.graph, "inside") == "inside_1"
    assert unique_name(m.clone().graph, "u") == "u_1"
