"""Layer normalization is recognized in its forms; RMS and other axes are not."""

import numpy as np
import pytest

from qcompile.core.graph import attribute_float
from qcompile.passes.prepare.recognize_layer_norm import RecognizeLayerNorm
from tests.passes.prepare.checking import changed, inits, ops, parse, rand, unchanged

PASS = RecognizeLayerNorm()
CONSTANTS = {
    "last": np.array([-1]), "middle": np.array([1]), "eps": np.float32(1e-5), "two": np.float32(2),
    "one": np.float32(1), "minus_half": np.float32(-0.5), "three": np.float32(3),
    "g": rand(8) + 1, "b": rand(8, seed=1), "g3": rand(1, 1, 8) + 1, "rows": rand(4, 1),
}  # fmt: skip


def steps(text: str, shape: str = "N, 4, 8", more: str = ""):
    return parse(f"g (float[{shape}] x) => (float[{shape}] y{more}) {{ {text} }}", CONSTANTS)


CENTRED = "m = ReduceMean(x, last) d = Sub(x, m)"
POW = "p = Pow(d, two) v = ReduceMean(p, last) e = Add(v, eps) s = Sqrt(e)"
MUL = "p = Mul(d, d) v = ReduceMean(p, last) e = Add(eps, v) s = Sqrt(e)"


@pytest.mark.parametrize("square", [POW, MUL])
@pytest.mark.parametrize(
    ("normal", "tail", "constants"),
    [
        ("n = Div(d, s)", "h = Mul(n, g) y = Add(h, b)", ["g", "b"]),
        ("r = Reciprocal(s) n = Mul(d, r)", "h = Mul(g, n) y = Add(b, h)", ["g", "b"]),
        ("r = Div(one, s) n = Mul(r, d)", "y = Mul(n, g)", ["g"]),
    ],
)
def test_forms(square, normal, tail, constants):
    model = changed(PASS, steps(f"{CENTRED} {square} {normal} {tail}"))
    assert ops(model) == ["LayerNormalization"]
    assert [v.name for v in model.graph[0].inputs] == ["x", *constants]
    assert attribute_float(model.graph[0], "epsilon", 0) == pytest.approx(1e-5, rel=1e-6)


def test_power_of_minus_a_half():
    text = f"{CENTRED} p = Pow(d, two) v = ReduceMean(p, last) e = Add(v, eps)"
    model = changed(PASS, steps(f"{text} r = Pow(e, minus_half) n = Mul(d, r) y = Mul(n, g)"))
    assert ops(model) == ["LayerNormalization"]


def test_no_gain_is_a_gain_of_one():
    model = changed(PASS, steps(f"{CENTRED} {POW} y = Div(d, s)"))
    assert ops(model) == ["LayerNormalization"]
    assert np.array_equal(inits(model)["y.gain"], np.ones(8, np.float32))


def test_gain_with_leading_ones_becomes_a_vector():
    model = changed(PASS, steps(f"{CENTRED} {POW} n = Div(d, s) y = Mul(n, g3)"))
    assert ops(model) == ["LayerNormalization"]


def test_gain_along_another_axis_stays():
    model = changed(PASS, steps(f"{CENTRED} {POW} n = Div(d, s) y = Mul(n, rows)"))
    assert ops(model) == ["LayerNormalization", "Mul"]


def test_rank_2():
    model = changed(PASS, steps(f"{CENTRED} {POW} n = Div(d, s) y = Mul(n, g)", "N, 8"))
    assert ops(model) == ["LayerNormalization"]


@pytest.mark.parametrize(
    "text",
    [
        "m = ReduceMean(x, middle) d = Sub(x, m) p = Pow(d, two) v = ReduceMean(p, middle) "
        "e = Add(v, eps) s = Sqrt(e) y = Div(d, s)",
        f"{CENTRED} p = Pow(d, three) v = ReduceMean(p, last) e = Add(v, eps) s = Sqrt(e) "
        "y = Div(d, s)",
        f"{CENTRED} p = Pow(x, two) v = ReduceMean(p, last) e = Add(v, eps) s = Sqrt(e) "
        "y = Div(d, s)",
        "p = Pow(x, two) v = ReduceMean(p, last) e = Add(v, eps) s = Sqrt(e) y = Div(x, s)",
        f"{CENTRED} {POW} y = Div(s, d)",
    ],
    ids=["axis", "cube", "not centred", "rms", "inverse"],
)
def test_other_functions_are_left(text):
    unchanged(PASS, steps(text))


@pytest.mark.parametrize("read", ["d", "p", "v", "s"])
def test_forms_of_which_a_part_is_read_elsewhere_are_left(read):
    text = f"{CENTRED} {POW} n = Div(d, s) y = Mul(n, g) z = Neg({read})"
    unchanged(PASS, steps(text, more=", float[N, 4, Q] z"))


def test_unknown_number_of_features_is_left():
    constants = {"last": np.array([-1]), "eps": np.float32(1e-5), "two": np.float32(2)}
    model = parse(
        f"g (float[N, 4, F] x) => (float[N, 4, F] y) {{ {CENTRED} {POW} y = Div(d, s) }}", constants
    )
    unchanged(PASS, model)
