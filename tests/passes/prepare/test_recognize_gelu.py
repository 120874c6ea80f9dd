"""Both forms of GELU are recognized however they are nested; look-alikes are not."""

import math

import numpy as np
import pytest

from qcompile.core.graph import attribute_str, sources
from qcompile.passes.prepare.recognize_gelu import RecognizeGelu
from tests.passes.prepare.checking import changed, ops, parse, unchanged

PASS = RecognizeGelu()
NUMBERS = {
    "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "r2": math.sqrt(2), "ir2": math.sqrt(0.5),
    "rough": 1.4142, "k": math.sqrt(2 / math.pi), "q": 0.044715, "other": 1.702,
}  # fmt: skip


def steps(text: str, out: str = "float[N, 3] y"):
    constants = {name: np.float32(number) for name, number in NUMBERS.items()}
    return parse(f"g (float[N, 3] x) => ({out}) {{ {text} }}", constants)


ERF = "a = Div(x, r2) e = Erf(a) s = Add(e, one)"
CUBE = "c = Pow(x, three) d = Mul(c, q) i = Add(x, d) a = Mul(i, k) t = Tanh(a) s = Add(t, one)"
BRACKET = (
    "c = Mul(x, x) d = Mul(q, c) i = Add(one, d) b = Mul(x, k) a = Mul(b, i) "
    "t = Tanh(a) s = Add(one, t)"
)


@pytest.mark.parametrize(
    "text",
    [
        f"{ERF} m = Mul(x, s) y = Mul(m, half)",
        f"{ERF} m = Mul(s, x) y = Mul(half, m)",
        f"{ERF} h = Mul(x, half) y = Mul(h, s)",
        f"{ERF} h = Mul(s, half) y = Mul(x, h)",
        f"{ERF} h = Div(s, two) y = Mul(x, h)",
        "a = Mul(ir2, x) e = Erf(a) s = Add(one, e) m = Mul(x, s) y = Div(m, two)",
        "a = Div(x, rough) e = Erf(a) s = Add(one, e) m = Mul(x, s) y = Div(m, two)",
    ],
)
def test_erf_forms(text):
    model = changed(PASS, steps(text), tolerance=1e-5)
    assert ops(model) == ["Gelu"]
    assert attribute_str(model.graph[0], "approximate", "none") == "none"
    assert len(sources(model.graph[0])) >= 3


@pytest.mark.parametrize("form", [CUBE, BRACKET])
@pytest.mark.parametrize(
    "outer", ["m = Mul(x, s) y = Mul(m, half)", "h = Mul(half, x) y = Mul(h, s)"]
)
def test_tanh_forms(form, outer):
    model = changed(PASS, steps(f"{form} {outer}"))
    assert ops(model) == ["Gelu"]
    assert attribute_str(model.graph[0], "approximate", "none") == "tanh"


@pytest.mark.parametrize(
    "text",
    [
        f"{ERF} y = Mul(x, s)",  # no half
        f"{ERF} m = Mul(x, s) y = Mul(m, one)",
        "a = Div(x, two) e = Erf(a) s = Add(e, one) m = Mul(x, s) y = Mul(m, half)",
        "a = Div(x, r2) e = Erf(a) s = Add(e, half) m = Mul(x, s) y = Mul(m, half)",
        "n = Neg(x) a = Div(n, r2) e = Erf(a) s = Add(e, one) m = Mul(x, s) y = Mul(m, half)",
        "a = Mul(x, other) s = Sigmoid(a) y = Mul(x, s)",
        "c = Mul(x, x) d = Mul(c, q) i = Add(x, d) a = Mul(i, k) t = Tanh(a) s = Add(t, one) "
        "m = Mul(x, s) y = Mul(m, half)",
    ],
)
def test_other_functions_are_left(text):
    unchanged(PASS, steps(text))


@pytest.mark.parametrize("read", ["a", "e", "s", "m"])
def test_forms_of_which_a_part_is_read_elsewhere_are_left(read):
    text = f"{ERF} m = Mul(x, s) y = Mul(m, half) z = Neg({read})"
    unchanged(PASS, steps(text, "float[N, 3] y, float[N, 3] z"))


def test_double_is_left():
    constants = {name: np.float64(number) for name, number in NUMBERS.items()}
    text = f"{CUBE} m = Mul(x, s) y = Mul(m, half)"
    unchanged(PASS, parse(f"g (double[N, 3] x) => (double[N, 3] y) {{ {text} }}", constants))
