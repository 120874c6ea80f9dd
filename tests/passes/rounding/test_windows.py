"""The matrix of a layer's inputs times the matrix of its weight is what ONNX Runtime computes."""

import numpy as np
import pytest

from qcompile.passes.rounding.weight_matrix import WeightMatrix, weight_matrix
from qcompile.passes.rounding.windows import inputs_of_outputs
from tests.passes.planning import EXECUTOR
from tests.passes.prepare.checking import parse, rand

LAYERS = {
    "1x1": ("Conv", "", (6, 4, 1, 1)),
    "padded": ("Conv", "pads = [1, 2, 0, 1]", (6, 4, 3, 3)),
    "strided": ("Conv", "strides = [2, 3], pads = [1, 1, 1, 1]", (6, 4, 3, 2)),
    "dilated": ("Conv", "dilations = [2, 1], pads = [2, 1, 2, 1]", (6, 4, 3, 3)),
    "depthwise": ("Conv", "group = 4, pads = [1, 1, 1, 1]", (4, 1, 3, 3)),
    "multiplier": ("Conv", "group = 4, pads = [1, 1, 1, 1]", (8, 1, 3, 3)),
    "grouped": ("Conv", "group = 2, pads = [1, 1, 1, 1]", (6, 2, 3, 3)),
    "same upper": ("Conv", 'auto_pad = "SAME_UPPER", strides = [2, 2]', (6, 4, 3, 2)),
    "same lower": ("Conv", 'auto_pad = "SAME_LOWER", strides = [2, 1]', (6, 4, 2, 4)),
    "valid": ("Conv", 'auto_pad = "VALID"', (6, 4, 3, 3)),
    "transposed": ("ConvTranspose", "strides = [2, 2]", (4, 5, 3, 2)),
    "transposed, cropped": ("ConvTranspose", "strides = [2, 1], pads = [1, 0, 2, 1]", (4, 5, 4, 3)),
    "transposed, cropped hard": ("ConvTranspose", "pads = [3, 0, 0, 2]", (4, 5, 2, 2)),
    "transposed, extra": (
        "ConvTranspose",
        "strides = [2, 2], output_padding = [1, 1], pads = [1, 1, 1, 1]",
        (4, 5, 3, 3),
    ),
    "transposed, grouped": ("ConvTranspose", "group = 2, strides = [2, 2]", (4, 3, 3, 3)),
    "transposed, dilated": ("ConvTranspose", "dilations = [2, 1]", (4, 5, 3, 3)),
    "transposed to a shape": (
        "ConvTranspose",
        "output_shape = [15, 20], strides = [2, 2]",
        (4, 5, 3, 3),
    ),
    "transposed, same": (
        "ConvTranspose",
        'auto_pad = "SAME_UPPER", strides = [2, 2]',
        (4, 5, 3, 3),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_convolutions(name):
    op, attributes, shape = LAYERS[name]
    head = f"{op} <{attributes}>" if attributes else op
    weight = rand(*shape)
    model = parse(f"g (float[2, 4, 7, 9] x) => (float[] y) {{ y = {head} (x, w) }}", {"w": weight})
    (node,) = model.graph
    x = rand(2, 4, 7, 9, seed=4)
    (wanted,) = EXECUTOR.load(model).run({"x": x})
    form = weight_matrix(node, shape)
    assert isinstance(form, WeightMatrix)
    columns = inputs_of_outputs(x, node, shape[2:], form.groups, 0.0)
    got = np.einsum("gkm,gkr->gmr", form.matrix(weight), columns)
    channels = np.moveaxis(wanted, 1, 0).reshape(got.shape)
    np.testing.assert_allclose(got, channels, atol=1e-4)
    assert np.array_equal(form.weight(form.matrix(weight)), weight)


@pytest.mark.parametrize("body", ["MatMul (x, w)", "Gemm (x, w)", "Gemm <transB = 1> (x, w)"])
def test_matrices(body):
    weight = rand(6, 6)
    model = parse(f"g (float[5, 6] x) => (float[] y) {{ y = {body} }}", {"w": weight})
    (node,) = model.graph
    x = rand(5, 6, seed=2)
    (wanted,) = EXECUTOR.load(model).run({"x": x})
    form = weight_matrix(node, (6, 6))
    assert isinstance(form, WeightMatrix)
    got = np.einsum("gkm,gkr->rm", form.matrix(weight), inputs_of_outputs(x, node, (), 1, 0.0))
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert np.array_equal(form.weight(form.matrix(weight)), weight)


@pytest.mark.parametrize(
    ("body", "shape", "why"),
    [
        ("Gemm <transA = 1> (x, w)", (6, 6), "it transposes its input"),
        ("MatMul (x, w)", (3, 6, 6), "its weight of rank 3 is no matrix"),
        ("MatMul (x, w)", (6,), "its weight of rank 1 is no matrix"),
    ],
)
def test_what_is_no_matrix(body, shape, why):
    model = parse(f"g (float[6, 6] x) => (float[] y) {{ y = {body} }}", {"w": rand(*shape)})
    (node,) = model.graph
    assert weight_matrix(node, shape) == why


def test_padding_is_what_stands_for_zero():
    model = parse(
        "g (float[1, 1, 2, 2] x) => (float[] y) { y = Conv <pads = [1, 1, 1, 1]> (x, w) }",
        {"w": rand(1, 1, 3, 3)},
    )
    (node,) = model.graph
    columns = inputs_of_outputs(np.full((1, 1, 2, 2), 9, np.uint8), node, (3, 3), 1, 7)
    assert columns.dtype == np.uint8
    assert sorted(np.unique(columns)) == [7, 9]


def test_lines_left_out_are_spread_over_samples():
    model = parse(
        "g (float[1, 1, 8, 4] x) => (float[] y) { y = Conv (x, w) }", {"w": rand(2, 1, 1, 1)}
    )
    (node,) = model.graph
    x = np.arange(32, dtype=np.float32).reshape(1, 1, 8, 4)
    taken = [inputs_of_outputs(x, node, (1, 1), 1, 0.0, most=8, first=i)[0, 0] for i in range(4)]
    assert all(len(rows) == 8 for rows in taken)
    assert sorted(np.concatenate(taken)) == list(range(32))
