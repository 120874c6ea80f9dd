"""Layers that can take a bias get one of zeros; the rest is left."""

import numpy as np
import pytest

from qcompile.core import graph as g
from qcompile.passes.prepare.add_bias import AddBias
from tests.passes.prepare.checking import changed, inits, parse, rand, unchanged

PASS = AddBias()


@pytest.mark.parametrize(
    ("layer", "weight", "channels"),
    [
        ("Conv(x, w)", (6, 4, 3, 3), 6),
        ("Conv<group = 4>(x, w)", (8, 1, 3, 3), 8),
        ("ConvTranspose<group = 2>(x, w)", (4, 3, 3, 3), 6),
    ],
)
def test_convolutions(layer, weight, channels):
    model = parse(f"g (float[N, 4, 6, 6] x) => (float[] y) {{ y = {layer} }}", {"w": rand(*weight)})
    changed(PASS, model, tolerance=0)
    bias = model.graph[0].inputs[2]
    assert bias is not None
    assert np.array_equal(inits(model)[str(bias.name)], np.zeros(channels, np.float32))


@pytest.mark.parametrize(("transposed", "shape"), [(0, (4, 6)), (1, (6, 4))])
def test_gemm(transposed, shape):
    text = f"g (float[N, 4] x) => (float[N, 6] y) {{ y = Gemm<transB = {transposed}>(x, w) }}"
    model = changed(PASS, parse(text, {"w": rand(*shape)}), tolerance=0)
    assert [a.shape for a in inits(model).values()] == [shape, (6,)]


@pytest.mark.parametrize("layer", ["Gemm(x, w, b)", "MatMul(x, w)", "Gemm(x, given)"])
def test_left_alone(layer):
    text = f"g (float[N, 4] x, float[4, 6] given) => (float[N, 6] y) {{ y = {layer} }}"
    unchanged(PASS, parse(text, {"w": rand(4, 6), "b": rand(6)}))


@pytest.mark.parametrize("shape", [(1, 6), (1,), (), (1, 1)])
@pytest.mark.parametrize("layer", ["Gemm (x, w, b)", "Gemm <transB = 1> (x, t, b)"])
def test_a_bias_of_a_gemm_becomes_a_vector(layer, shape):
    text = f"g (float[N, 4] x) => (float[N, 6] y) {{ y = {layer} }}"
    model = parse(text, {"w": rand(4, 6), "t": rand(6, 4), "b": rand(*shape)})
    changed(PASS, model, tolerance=0)
    bias = g.constant(model.graph[0].inputs[2])
    assert np.array_equal(bias, np.broadcast_to(rand(*shape).reshape(-1), 6))


@pytest.mark.parametrize("shape", [(1, 6), (1, 1, 6), (1,), ()])
@pytest.mark.parametrize("order", ["p, b", "b, p"])
def test_what_is_added_to_a_product_becomes_a_vector(order, shape):
    text = "g (float[N, 5, 4] x) => (float[N, 5, 6] y) { p = MatMul (x, w) y = Add (ORDER) }"
    model = parse(text.replace("ORDER", order), {"w": rand(4, 6), "b": rand(*shape)})
    changed(PASS, model, tolerance=0)
    bias = g.constant(model.graph[1].inputs[order.split(", ").index("b")])
    assert np.array_equal(bias, np.broadcast_to(rand(*shape).reshape(-1), 6))


def test_a_shared_bias_is_kept_for_its_other_readers():
    text = "g (float[2, 4] x) => (float[2, 6] y) { p = Gemm (x, w, b) y = Mul (p, b) }"
    model = changed(PASS, parse(text, {"w": rand(4, 6), "b": rand(1, 6)}), tolerance=0)
    assert {k: v.shape for k, v in inits(model).items() if k != "w"} == {
        "b": (1, 6),
        "b_vector": (6,),
    }


@pytest.mark.parametrize(
    "body",
    [
        "y = Gemm (x, w, rows)",
        "y = Gemm (x, w, column)",
        "p = MatMul (x, w) y = Add (p, deep)",
        "p = MatMul (x, w) y = Add (p, rows)",
        "p = MatMul (x, w) y = Add (p, b)",
        "p = MatMul (x, stack) y = Add (p, row)",
        "p = MatMul (x, given) y = Add (p, row)",
        "p = MatMul (x, w) q = MatMul (x, w) y = Add (p, q)",
        "p = Mul (x, x) y = Add (p, one)",
    ],
)
def test_addends_that_are_no_bias_of_another_form(body):
    text = f"g (float[2, 4] x, float[4, 6] given) => (float[] y) {{ {body} }}"
    constants = {"w": rand(4, 6), "stack": rand(2, 4, 6), "b": rand(6), "row": rand(1, 6)}
    constants |= {"rows": rand(2, 6), "column": rand(2, 1), "deep": rand(1, 1, 6), "one": rand(1)}
    unchanged(PASS, parse(text, constants))
