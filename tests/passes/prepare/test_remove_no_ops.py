"""Identities of every kind go; what only resembles one stays."""

import numpy as np
import pytest

from qcompile.passes.prepare.remove_no_ops import RemoveNoOps
from tests.passes.prepare.checking import changed, ops, parse, rand, unchanged

PASS = RemoveNoOps()
CONSTANTS = {
    "zero": np.float32(0), "one": np.float32(1), "zeros": np.zeros(8, np.int64),
    "ones": np.ones((1, 3, 1, 1), np.float32), "wide": np.ones((1, 1, 1, 1, 1), np.float32),
    "same": np.array([-1, 3, 4, 5]), "copy": np.array([0, 3, 0, 5]), "vector": np.array([1, 5]),
    "flat": np.array([-1, 60]), "halves": np.array([-1, 30]), "mixed": np.array([-1, 4, 3, 5]),
    "axis": np.array([1]), "tall": np.array([2, 1, 1, 1]), "off": np.array(False),
    "ratio": np.float32(0.5),
}  # fmt: skip
SAME = "float[N, 3, 4, 5] y"


def steps(text: str, out: str = SAME):
    return parse(f"g (float[N, 3, 4, 5] x) => ({out}) {{ {text} }}", CONSTANTS)


@pytest.mark.parametrize(
    "op",
    [
        "Identity(r)",
        "Dropout(r)",
        "Dropout(r, ratio, off)",
        "Cast<to = 1>(r)",
        "Concat<axis = 1>(r)",
        "Reshape(r, same)",
        "Reshape(r, copy)",
        "Expand(r, vector)",
        "Pad(r, zeros)",
        "MaxPool<kernel_shape = [1, 1]>(r)",
        "AveragePool<kernel_shape = [1, 1], strides = [1, 1]>(r)",
        "Add(r, zero)",
        "Add(zero, r)",
        "Sub(r, zero)",
        "Mul(r, ones)",
        "Mul(one, r)",
        "Div(r, one)",
    ],
)
def test_identities(op):
    model = changed(PASS, steps(f"r = Neg(x) i = {op} y = Relu(i)"), tolerance=0)
    assert ops(model) == ["Neg", "Relu"]
    model = changed(PASS, steps(f"r = Neg(x) y = {op}"), tolerance=0)
    assert ops(model) == ["Neg"]


def test_flatten_of_rank_2():
    model = parse("g (float[N, 3] x) => (float[N, 3] y) { r = Neg(x) f = Flatten(r) y = Relu(f) }")
    assert ops(changed(PASS, model, tolerance=0)) == ["Neg", "Relu"]


def test_global_pool_of_a_single_element():
    model = parse(
        "g (float[N, 3, 1, 1] x) => (float[N, 3, 1, 1] y) { r = Neg(x) y = GlobalAveragePool(r) }"
    )
    assert ops(changed(PASS, model, tolerance=0)) == ["Neg"]


@pytest.mark.parametrize(
    "inner", ["Reshape(x, flat)", "Flatten<axis = 2>(x)", "Unsqueeze(x, axis)"]
)
def test_reshape_reads_past_a_reshape(inner):
    model = changed(
        PASS, steps(f"a = {inner} y = Reshape(a, halves)", "float[M, 30] y"), tolerance=0
    )
    assert ops(model) == ["Reshape"]


def test_reshape_that_copies_a_dimension_reads_what_it_read():
    model = parse(
        "g (float[N, 12] x) => (float[A, B, C] y) { a = Reshape(x, s) y = Reshape(a, t) }",
        {"s": np.array([-1, 6]), "t": np.array([0, 3, 2])},
    )
    unchanged(PASS, model)


@pytest.mark.parametrize(
    "op",
    [
        "Dropout(r, ratio, on)",
        "Reshape(r, mixed)",
        "Expand(r, tall)",
        "MaxPool<kernel_shape = [1, 1], strides = [2, 2]>(r)",
        "AveragePool<kernel_shape = [1, 1], pads = [0, 1, 0, 0]>(r)",
        "GlobalAveragePool(r)",
        "Add(r, one)",
        "Mul(r, wide)",
        "Sub(zero, r)",
        "Div(one, r)",
        "Concat<axis = 1>(r, r)",
        "Cast<to = 10>(r)",
    ],
)
def test_left_alone(op):
    kind = "float16" if "Cast" in op else "float"
    dims = "A, B, C, D, E" if "wide" in op else "A, B, C, D"
    model = parse(
        f"g (float[N, 3, 4, 5] x) => ({kind}[{dims}] y) {{ r = Neg(x) y = {op} }}",
        {**CONSTANTS, "on": np.array(True)},
    )
    unchanged(PASS, model)


def test_between_a_graph_input_and_output_it_stays():
    unchanged(PASS, steps("y = Identity(x)"))


def test_between_two_graph_outputs_it_stays():
    unchanged(PASS, steps("y = Relu(x) z = Identity(y)", f"{SAME}, float[N, 3, 4, 5] z"))


def test_subgraphs_that_hand_outer_values_on_are_left():
    model = parse(
        """g (bool c, float[N, 4] x) => (float[N, 4] y) {
          i = Identity(x)
          y = If(c) <
            then_branch = t () => (float[N, 4] u) { u = Identity(i) },
            else_branch = e () => (float[N, 4] v) { v = Identity(x) }
          >
        }""",
        {"k": rand(4)},
    )
    assert PASS(model).modified
    assert ops(model) == ["If"]
