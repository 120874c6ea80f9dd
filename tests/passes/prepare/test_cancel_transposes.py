"""Which Transposes go, which are merged, and which moves would save nothing."""

import numpy as np
import pytest

from qcompile.passes.prepare.cancel_transposes import CancelTransposes
from tests.passes.prepare.checking import changed, ops, parse, rand, unchanged

PASS = CancelTransposes()
TO_LAST = "Transpose<perm = [0, 2, 3, 1]>"
TO_FIRST = "Transpose<perm = [0, 3, 1, 2]>"
IN = "float[N, 3, 4, 5] x"


def steps(text: str, out: str = "float[N, 3, 4, 5] y", inputs: str = IN, **constants):
    return parse(f"g ({inputs}) => ({out}) {{ {text} }}", constants)


def test_inverse_pair():
    model = steps(f"r = Relu(x) a = {TO_LAST}(r) b = {TO_FIRST}(a) y = Neg(b)")
    assert ops(changed(PASS, model)) == ["Relu", "Neg"]


def test_inverse_pair_that_makes_an_output_keeps_its_name():
    model = steps(f"r = Relu(x) a = {TO_LAST}(r) y = {TO_FIRST}(a)")
    assert ops(changed(PASS, model)) == ["Relu"]


def test_inverse_pair_between_input_and_output_becomes_one_that_stays():
    model = changed(PASS, steps(f"a = {TO_LAST}(x) y = {TO_FIRST}(a)"))
    assert ops(model) == ["Transpose"]


def test_consecutive_ones_are_merged():
    model = steps(
        "a = Transpose<perm = [0, 2, 1, 3]>(x) y = Transpose<perm = [0, 1, 3, 2]>(a)",
        out="float[N, 4, 5, 3] y",
    )
    assert ops(changed(PASS, model)) == ["Transpose"]


def test_merged_past_one_that_is_read_elsewhere():
    model = steps(
        f"r = Relu(x) a = {TO_LAST}(r) b = {TO_FIRST}(a) y = Neg(b) z = Abs(a)",
        out="float[N, 3, 4, 5] y, float[N, 4, 5, 3] z",
    )
    assert ops(changed(PASS, model)) == ["Relu", "Transpose", "Neg", "Abs"]


def test_one_that_moves_nothing():
    model = steps("r = Relu(x) a = Transpose<perm = [0, 1, 2, 3]>(r) y = Neg(a)")
    assert ops(changed(PASS, model)) == ["Relu", "Neg"]


def test_default_permutation_reverses():
    model = steps("r = Relu(x) a = Transpose(r) b = Transpose(a) y = Neg(b)")
    assert ops(changed(PASS, model)) == ["Relu", "Neg"]


def test_pair_around_a_chain_of_elementwise_ops():
    model = steps(
        f"a = {TO_LAST}(x) b = Relu(a) c = Mul(b, k) d = Clip(c, lo) e = Add(s, d) "
        f"y = {TO_FIRST}(e)",
        k=rand(3),
        s=np.float32(2),
        lo=np.float32(0.5),
    )
    changed(PASS, model)
    assert ops(model) == ["Relu", "Mul", "Clip", "Add"]
    assert model.graph.outputs[0].name == "y"


def test_full_rank_and_shared_constants_are_permuted():
    model = steps(
        f"a = {TO_LAST}(x) b = Mul(a, k) c = {TO_FIRST}(b) y = Relu(c) z = Neg(k)",
        out="float[N, 3, 4, 5] y, float[1, 4, 5, 3] z",
        k=rand(1, 4, 5, 3),
    )
    assert ops(changed(PASS, model)) == ["Mul", "Relu", "Neg"]


def test_two_that_feed_one_op_become_one():
    model = steps(
        f"a = {TO_LAST}(x) b = {TO_LAST}(w) y = Add(a, b)",
        inputs="float[N, 3, 4, 5] x, float[N, 3, 4, 5] w",
        out="float[N, 4, 5, 3] y",
    )
    assert ops(changed(PASS, model)) == ["Add", "Transpose"]


@pytest.mark.parametrize(
    ("text", "out"),
    [
        (f"a = {TO_LAST}(x) y = Relu(a)", "float[N, 4, 5, 3] y"),  # moving saves nothing
        (f"y = {TO_LAST}(x)", "float[N, 4, 5, 3] y"),
        (f"a = {TO_LAST}(x) b = Softmax(a) y = {TO_FIRST}(b)", "float[N, 3, 4, 5] y"),
        (
            f"a = {TO_LAST}(x) b = Relu(a) y = {TO_FIRST}(b) z = Neg(b)",
            "float[N, 3, 4, 5] y, float[N, 4, 5, 3] z",
        ),
        (f"a = {TO_LAST}(x) b = Add(a, x2) y = {TO_FIRST}(b)", "float[N, 3, 4, 5] y"),
    ],
)
def test_left_alone(text, out):
    unchanged(PASS, steps(text, out, inputs=f"{IN}, float[N, 4, 5, 3] x2"))


def test_different_permutations_are_left():
    model = steps(
        "a = Transpose<perm = [0, 2, 1]>(x) b = Transpose<perm = [2, 1, 0]>(w) y = Add(a, b)",
        inputs="float[4, 4, 4] x, float[4, 4, 4] w",
        out="float[4, 4, 4] y",
    )
    unchanged(PASS, model)
