"""HardSwish and HardSigmoid are recognized; look-alikes are not."""

import numpy as np
import pytest

from qcompile.core.graph import attribute_float
from qcompile.passes.prepare.recognize_hard_swish import RecognizeHardSwish
from tests.passes.prepare.checking import changed, ops, parse, unchanged

PASS = RecognizeHardSwish()
NUMBERS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "five": 5, "six": 6, "sixth": 1 / 6, "half": 0.5,
    "tenth": 0.1,
}  # fmt: skip


def steps(text: str, out: str = "float[N, 3] y"):
    constants = {name: np.float32(number) for name, number in NUMBERS.items()}
    return parse(f"g (float[N, 3] x) => ({out}) {{ {text} }}", constants)


RAMP = "a = Add(x, three) c = Clip(a, zero, six)"
HARD = "h = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x)"


@pytest.mark.parametrize(
    "text",
    [
        f"{RAMP} m = Mul(x, c) y = Div(m, six)",
        f"{RAMP} m = Mul(c, x) y = Mul(sixth, m)",
        f"{RAMP} m = Div(c, six) y = Mul(x, m)",
        f"{RAMP} m = Mul(x, sixth) y = Mul(m, c)",
        f"{HARD} y = Mul(x, h)",
        f"{HARD} y = Mul(h, x)",
        "m = Mul(x, sixth) a = Add(m, half) h = Clip(a, zero, one) y = Mul(x, h)",
    ],
)
def test_hard_swish_forms(text):
    assert ops(changed(PASS, steps(text))) == ["HardSwish"]


@pytest.mark.parametrize(
    ("text", "alpha", "beta"),
    [
        (f"{RAMP} y = Div(c, six)", 1 / 6, 0.5),
        (f"{RAMP} y = Mul(sixth, c)", 1 / 6, 0.5),
        ("a = Add(x, one) c = Clip(a, zero, two) y = Mul(c, half)", 0.5, 0.5),
        ("m = Mul(x, tenth) a = Add(m, half) y = Clip(a, zero, one)", 0.1, 0.5),
    ],
)
def test_hard_sigmoid_forms(text, alpha, beta):
    model = changed(PASS, steps(text))
    assert ops(model) == ["HardSigmoid"]
    assert attribute_float(model.graph[0], "alpha", 0) == pytest.approx(alpha, abs=1e-7)
    assert attribute_float(model.graph[0], "beta", 0) == pytest.approx(beta, abs=1e-7)


@pytest.mark.parametrize(
    "text",
    [
        "a = Add(x, two) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, five) m = Mul(x, c) y = Div(m, six)",
        f"{RAMP} m = Mul(x, c) y = Div(m, five)",
        f"{RAMP} n = Neg(x) m = Mul(n, c) y = Div(m, six)",
        "h = HardSigmoid(x) y = Mul(x, h)",  # alpha 0.2
        "a = Add(x, half) y = Clip(a, zero, one)",
        "m = Mul(x, tenth) a = Add(m, half) y = Clip(a, zero, two)",
    ],
)
def test_other_functions_are_left(text):
    unchanged(PASS, steps(text))


@pytest.mark.parametrize("read", ["a", "c", "m"])
def test_forms_of_which_a_part_is_read_elsewhere_are_left(read):
    text = f"{RAMP} m = Mul(x, c) y = Div(m, six) z = Neg({read})"
    unchanged(PASS, steps(text, "float[N, 3] y, float[N, 3] z"))


def test_double_is_left():
    constants = {name: np.float64(number) for name, number in NUMBERS.items()}
    text = f"{RAMP} m = Mul(x, c) y = Div(m, six)"
    unchanged(PASS, parse(f"g (double[N, 3] x) => (double[N, 3] y) {{ {text} }}", constants))
