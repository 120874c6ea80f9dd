"""Layers that can take a bias get one of zeros; the rest is left."""

import numpy as np
import pytest

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
