"""Batch normalization folds into the layer before or after it wherever that is exact."""

import numpy as np
import pytest

from qcompile.core.graph import sources
from qcompile.passes.prepare.fold_batch_norm import FoldBatchNorm
from tests.passes.prepare.checking import batch_norm, changed, inits, ops, parse, rand, unchanged

PASS = FoldBatchNorm()


def test_conv_without_bias():
    model = parse(
        """g (float[N, 3, 6, 6] x) => (float[N, 4, 6, 6] y) {
          c = Conv<pads = [1, 1, 1, 1]>(x, w)
          y = BatchNormalization(c, g, b, m, v)
        }""",
        {"w": rand(4, 3, 3, 3), **batch_norm(4)},
    )
    changed(PASS, model)
    assert ops(model) == ["Conv"]
    assert sources(model.graph[0]) == ("n0_Conv", "n1_BatchNormalization")
    assert "w" in inits(model)  # the weight keeps its name


def test_folding_is_float64_rounded_once():
    parameters = batch_norm(4)
    w, c = rand(4, 3, 3, 3), rand(4, seed=1)
    model = parse(
        """g (float[N, 3, 6, 6] x) => (float[N, 4, 4, 4] y) {
          c = Conv(x, w, c0)
          y = BatchNormalization<epsilon = 0.001>(c, g, b, m, v)
        }""",
        {"w": w, "c0": c, **parameters},
    )
    changed(PASS, model)
    g, b, m, v = (parameters[k].astype(np.float64) for k in "gbmv")
    scale = g / np.sqrt(v + np.float32(0.001))
    constants = inits(model)
    assert np.array_equal(constants["w"], (w * scale[:, None, None, None]).astype(np.float32))
    assert np.array_equal(constants["c0"], (c * scale + (b - m * scale)).astype(np.float32))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_conv_with_bias(groups):
    model = parse(
        f"""g (float[N, 4, 6, 6] x) => (float[N, 8, 4, 4] y) {{
          c = Conv<group = {groups}>(x, w, c0)
          y = BatchNormalization(c, g, b, m, v)
        }}""",
        {"w": rand(8, 4 // groups, 3, 3), "c0": rand(8), **batch_norm(8)},
    )
    changed(PASS, model)
    assert ops(model) == ["Conv"]


@pytest.mark.parametrize("groups", [1, 2])
def test_conv_transpose(groups):
    model = parse(
        f"""g (float[N, 4, 5, 5] x) => (float[N, 6, 11, 11] y) {{
          c = ConvTranspose<group = {groups}, strides = [2, 2]>(x, w)
          y = BatchNormalization(c, g, b, m, v)
        }}""",
        {"w": rand(4, 6 // groups, 3, 3), **batch_norm(6)},
    )
    changed(PASS, model)
    assert ops(model) == ["ConvTranspose"]


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_with_alpha_and_beta(transposed):
    shape = (5, 3) if transposed else (3, 5)
    model = parse(
        f"""g (float[N, 3] x) => (float[N, 5] y) {{
          c = Gemm<transB = {transposed}, alpha = 0.5, beta = 2.0>(x, w, c0)
          y = BatchNormalization(c, g, b, m, v)
        }}""",
        {"w": rand(*shape), "c0": rand(1, 5), **batch_norm(5)},
    )
    changed(PASS, model)
    assert ops(model) == ["Gemm"]


def test_matmul_becomes_gemm():
    model = parse(
        """g (float[N, 3] x) => (float[N, 5] y) {
          c = MatMul(x, w)
          y = BatchNormalization(c, g, b, m, v)
        }""",
        {"w": rand(3, 5), **batch_norm(5)},
    )
    changed(PASS, model)
    assert ops(model) == ["Gemm"]


def test_shared_weight_is_copied_for_the_folded_layer_only():
    model = parse(
        """g (float[N, 3, 6, 6] x) => (float[N, 4, 4, 4] y, float[N, 4, 4, 4] z) {
          c = Conv(x, w, c0)
          y = BatchNormalization(c, g, b, m, v)
          z = Conv(x, w, c0)
        }""",
        {"w": rand(4, 3, 3, 3), "c0": rand(4), **batch_norm(4)},
    )
    changed(PASS, model)
    assert ops(model) == ["Conv", "Conv"]
    assert np.array_equal(inits(model)["w"], rand(4, 3, 3, 3))
    assert {"w_1", "c0_1"} <= set(inits(model))


def test_two_norms_on_layers_that_share_a_weight():
    model = parse(
        """g (float[N, 3, 6, 6] x) => (float[N, 4, 4, 4] y, float[N, 4, 4, 4] z) {
          c = Conv(x, w)
          d = Conv(x, w)
          y = BatchNormalization(c, g, b, m, v)
          z = BatchNormalization(d, b, g, m, v)
        }""",
        {"w": rand(4, 3, 3, 3), **batch_norm(4)},
    )
    changed(PASS, model)
    assert ops(model) == ["Conv", "Conv"]


def test_layer_read_elsewhere_is_left_and_the_norm_decomposed():
    model = parse(
        """g (float[N, 3, 6, 6] x) => (float[N, 4, 4, 4] y, float[N, 4, 4, 4] z) {
          c = Conv(x, w)
          y = BatchNormalization(c, g, b, m, v)
          z = Relu(c)
        }""",
        {"w": rand(4, 3, 3, 3), **batch_norm(4)},
    )
    changed(PASS, model)
    assert ops(model) == ["Conv", "Mul", "Add", "Relu"]
    assert np.array_equal(inits(model)["w"], rand(4, 3, 3, 3))


def test_layer_that_is_an_output_is_left():
    model = parse(
        """g (float[N, 3, 6, 6] x) => (float[N, 4, 4, 4] y, float[N, 4, 4, 4] c) {
          c = Conv(x, w)
          y = BatchNormalization(c, g, b, m, v)
        }""",
        {"w": rand(4, 3, 3, 3), **batch_norm(4)},
    )
    changed(PASS, model)
    assert ops(model) == ["Conv", "Mul", "Add"]


@pytest.mark.parametrize("shape", ["N, 4", "N, 4, 5", "N, 4, 5, 5", "N, 4, 2, 3, 3"])
def test_lone_norm_becomes_mul_and_add(shape):
    model = parse(
        f"""g (float[{shape}] x) => (float[{shape}] y) {{
          y = BatchNormalization(x, g, b, m, v)
        }}""",
        batch_norm(4),
    )
    changed(PASS, model)
    assert ops(model) == ["Mul", "Add"]


@pytest.mark.parametrize("groups", [1, 2])
def test_before_unpadded_convs_all_is_folded(groups):
    model = parse(
        f"""g (float[N, 4, 6, 6] x) => (float[N, 6, 4, 4] y, float[N, 6, 6, 6] z) {{
          r = Relu(x)
          n = BatchNormalization(r, g, b, m, v)
          y = Conv<group = {groups}>(n, w, c0)
          z = Conv(n, w1)
        }}""",
        {
            "w": rand(6, 4 // groups, 3, 3),
            "c0": rand(6),
            "w1": rand(6, 4, 1, 1, seed=5),
            **batch_norm(4),
        },
    )
    changed(PASS, model)
    assert ops(model) == ["Relu", "Conv", "Conv"]


def test_before_padded_conv_the_shift_stays():
    model = parse(
        """g (float[N, 4, 6, 6] x) => (float[N, 6, 6, 6] y) {
          n = BatchNormalization(x, g, b, m, v)
          y = Conv<pads = [1, 1, 1, 1]>(n, w, c0)
        }""",
        {"w": rand(6, 4, 3, 3), "c0": rand(6), **batch_norm(4)},
    )
    changed(PASS, model)
    assert ops(model) == ["Add", "Conv"]


@pytest.mark.parametrize("gamma", [0.0, 1e-4])
def test_before_padded_conv_a_huge_shift_is_not_made(gamma):
    parameters = batch_norm(4)
    parameters["g"][1] = gamma
    model = parse(
        """g (float[N, 4, 6, 6] x) => (float[N, 6, 6, 6] y) {
          n = BatchNormalization(x, g, b, m, v)
          y = Conv<pads = [1, 1, 1, 1]>(n, w)
        }""",
        {"w": rand(6, 4, 3, 3), **parameters},
    )
    changed(PASS, model)
    assert ops(model) == ["Mul", "Add", "Conv"]


def test_before_conv_transpose_only_the_scale_is_folded():
    model = parse(
        """g (float[N, 4, 5, 5] x) => (float[N, 6, 7, 7] y) {
          n = BatchNormalization(x, g, b, m, v)
          y = ConvTranspose<group = 2>(n, w)
        }""",
        {"w": rand(4, 3, 3, 3), **batch_norm(4)},
    )
    changed(PASS, model)
    assert ops(model) == ["Add", "ConvTranspose"]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ("MatMul(n, w)", (4, 5)),
        ("Gemm<alpha = 0.5>(n, w, c0)", (4, 5)),
        ("Gemm<transB = 1>(n, w)", (5, 4)),
    ],
)
def test_before_matrix_products(layer, shape):
    model = parse(
        f"""g (float[N, 4] x) => (float[N, 5] y) {{
          n = BatchNormalization(x, g, b, m, v)
          y = {layer}
        }}""",
        {"w": rand(*shape), "c0": rand(5), **batch_norm(4)},
    )
    changed(PASS, model)
    assert ops(model) == ["Gemm"]


def test_before_a_layer_and_another_reader_nothing_is_folded():
    model = parse(
        """g (float[N, 4, 6, 6] x) => (float[N, 6, 4, 4] y, float[N, 4, 6, 6] z) {
          n = BatchNormalization(x, g, b, m, v)
          y = Conv(n, w)
          z = Relu(n)
        }""",
        {"w": rand(6, 4, 3, 3), **batch_norm(4)},
    )
    changed(PASS, model)
    assert ops(model) == ["Mul", "Add", "Conv", "Relu"]


def test_before_matmul_of_rank_3_the_channels_are_not_its_inputs():
    model = parse(
        """g (float[N, 4, 4] x) => (float[N, 4, 5] y) {
          n = BatchNormalization(x, g, b, m, v)
          y = MatMul(n, w)
        }""",
        {"w": rand(4, 5), **batch_norm(4)},
    )
    changed(PASS, model)
    assert ops(model) == ["Mul", "Add", "MatMul"]


def test_training_mode_is_left():
    model = parse(
        """g (float[N, 4, 5, 5] x) => (float[N, 4, 5, 5] y) {
          y, mm, vv = BatchNormalization<training_mode = 1>(x, g, b, m, v)
        }""",
        batch_norm(4),
    )
    unchanged(PASS, model)


def test_computed_parameters_are_left():
    parameters = batch_norm(4)
    del parameters["g"]
    model = parse(
        """g (float[N, 4, 5, 5] x, float[4] g) => (float[N, 4, 5, 5] y) {
          y = BatchNormalization(x, g, b, m, v)
        }""",
        parameters,
    )
    unchanged(PASS, model)
