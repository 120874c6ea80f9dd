"""SiLU is written one way, from all its forms."""

import numpy as np
import pytest

from qcompile.passes.prepare.recognize_silu import RecognizeSilu
from tests.passes.prepare.checking import changed, ops, parse, unchanged

PASS = RecognizeSilu()


def steps(text: str, out: str = "float[N, 3] y"):
    constants = {"one": np.float32(1), "two": np.float32(2)}
    return parse(f"g (float[N, 3] x) => ({out}) {{ {text} }}", constants)


EXP = "n = Neg(x) e = Exp(n) d = Add(e, one)"


def test_operand_order():
    model = changed(PASS, steps("s = Sigmoid(x) y = Mul(s, x)"), tolerance=0)
    assert [v.name for v in model.graph[1].inputs] == ["x", "s"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{EXP} y = Div(one, d)", ["Sigmoid"]),
        (f"{EXP} y = Reciprocal(d)", ["Sigmoid"]),
        (f"{EXP} y = Div(x, d)", ["Sigmoid", "Mul"]),
        (f"{EXP} r = Reciprocal(d) y = Mul(r, x)", ["Sigmoid", "Mul"]),
    ],
)
def test_decomposed_forms(text, expected):
    assert ops(changed(PASS, steps(text))) == expected


@pytest.mark.parametrize(
    "text",
    [
        "s = Sigmoid(x) y = Mul(x, s)",
        "s = Sigmoid(x) n = Neg(x) y = Mul(s, n)",
        f"{EXP} y = Div(two, d)",
        "n = Neg(x) e = Exp(n) d = Add(e, two) y = Div(x, d)",
        "e = Exp(x) d = Add(e, one) y = Div(x, d)",
    ],
)
def test_left_alone(text):
    unchanged(PASS, steps(text))


@pytest.mark.parametrize("read", ["n", "e", "d"])
def test_forms_of_which_a_part_is_read_elsewhere_are_left(read):
    text = f"{EXP} y = Div(x, d) z = Neg({read})"
    unchanged(PASS, steps(text, "float[N, 3] y, float[N, 3] z"))
