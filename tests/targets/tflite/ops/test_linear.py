"""Gemm and MatMul: FULLY_CONNECTED with constants, BATCH_MATMUL without; no needless TRANSPOSE."""

import numpy as np
import pytest

from qcompile.core.errors import QCompileError
from qcompile.passes.plan.weights import choose_weights
from qcompile.passes.quantize.insert_qdq import InsertQDQ
from tests.passes.planning import draft, session
from tests.targets.tflite.lowering import (
    TARGET,
    check_float,
    check_integer,
    lowered,
    noise,
    parse,
)

RNG = np.random.default_rng(5)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


GEMM = {
    "plain": ("", (8, 5), (5,)),
    "transB": ("transB=1", (5, 8), (5,)),
    "row": ("transB=1", (5, 8), (1, 5)),
    "one": ("", (8, 5), (1,)),
}


@pytest.mark.parametrize("shape", ["3,5", "3,1", "5"])
@pytest.mark.parametrize("attributes", ["", "alpha=0.5, beta=2.0"])
def test_gemm_adds_what_is_no_bias(shape: str, attributes: str) -> None:
    text = f"""g (float[3,8] x, float[{shape}] c) => (float[n,m] y) {{
        y = Gemm<{attributes}>(x, w, c)
    }}"""
    assert check_float(text, {"w": random(8, 5)}, atol=1e-5).ops[0] == "FULLY_CONNECTED"


def test_gemm_adds_a_constant_matrix() -> None:
    text = "g (float[3,8] x) => (float[n,m] y) { a = Gemm<>(x, w, c) y = Relu(a) }"
    run = check_float(text, {"w": random(8, 5), "c": random(3, 5)}, atol=1e-5)
    assert run.ops == ["FULLY_CONNECTED", "ADD"]


@pytest.mark.parametrize("case", GEMM)
def test_gemm(case: str) -> None:
    attributes, matrix, bias = GEMM[case]
    text = f"g (float[3,8] x) => (float[n,m] y) {{ y = Gemm<{attributes}>(x, w, b) }}"
    constants = {"w": random(*matrix), "b": random(*bias)}
    assert check_float(text, constants).ops == ["FULLY_CONNECTED"]
    if len(bias) == 1 and bias[0] > 1:  # the planner leaves other biases in floats
        for granularity in ("tensor", "channel"):
            run = check_integer(text, constants, granularity=granularity, share=0.05)
            assert run.ops == ["FULLY_CONNECTED"]


def test_gemm_factors_in_floats() -> None:
    text = """g (float[8,3] x) => (float[n,m] y) {
        y = Gemm<alpha=0.5, beta=2.0, transA=1>(x, w, b) }"""
    run = check_float(text, {"w": random(8, 5), "b": random(5)})
    assert run.count["FULLY_CONNECTED"] == 1


def test_gemm_behind_a_transpose() -> None:
    text = """g (float[8,3] x) => (float[n,m] y) {
        t = Transpose<perm=[1,0]>(x) y = Gemm(t, w, b) }"""
    assert check_float(text, {"w": random(8, 5), "b": random(5)}).count["FULLY_CONNECTED"] == 1


def test_relu_is_fused() -> None:
    text = "g (float[3,8] x) => (float[n,m] y) { h = Gemm(x, w, b) y = Relu(h) }"
    constants = {"w": random(8, 5), "b": random(5)}
    assert check_float(text, constants).ops == ["FULLY_CONNECTED"]
    assert check_integer(text, constants, share=0.05).ops == ["FULLY_CONNECTED"]


@pytest.mark.parametrize("shape", ["3,8", "2,3,8", "2,2,3,8"])
def test_matmul_with_bias(shape: str) -> None:
    text = f"""g (float[{shape}] x) => (float[n,m] y) {{
        h = MatMul(x, w) a = Add(b, h) y = Relu(a) }}"""
    constants = {"w": random(8, 5), "b": random(5)}
    assert check_float(text, constants).ops == ["FULLY_CONNECTED"]
    run = check_integer(text, constants, share=0.05)
    assert run.ops == ["FULLY_CONNECTED"]


def test_matmul_without_bias() -> None:
    text = "g (float[2,3,8] x) => (float[n,m] y) { y = MatMul(x, w) }"
    constants = {"w": random(8, 5)}
    assert check_float(text, constants).ops == ["FULLY_CONNECTED"]
    assert check_integer(text, constants, share=0.05).ops == ["FULLY_CONNECTED"]


def test_matmul_of_two_activations() -> None:
    text = "g (float[2,3,8] x, float[2,8,5] z) => (float[n,m] y) { y = MatMul(x, z) }"
    assert check_float(text).ops == ["BATCH_MATMUL"]
    assert check_integer(text, share=0.05).ops == ["BATCH_MATMUL"]


@pytest.mark.parametrize(
    ("a", "b", "attributes", "ops"),
    [
        ("3,8", "8,5", "", ["BATCH_MATMUL"]),
        ("3,8", "5,8", "transB=1", ["BATCH_MATMUL"]),
        ("8,3", "8,5", "transA=1", ["TRANSPOSE", "BATCH_MATMUL"]),
    ],
)
def test_gemm_of_two_activations(a: str, b: str, attributes: str, ops: list[str]) -> None:
    text = f"g (float[{a}] x, float[{b}] z) => (float[n,m] y) {{ y = Gemm<{attributes}>(x, z) }}"
    assert check_float(text).ops == ops


def test_a_product_of_two_vectors_is_a_scalar() -> None:
    text = "g (float[5] x, float[5] y) => (float[] z) { z = MatMul(x, y) }"
    assert check_float(text).ops == ["RESHAPE", "RESHAPE", "BATCH_MATMUL", "SQUEEZE"]


def test_vectors() -> None:
    text = "g (float[8] x, float[8,5] z) => (float[n] y) { y = MatMul(x, z) }"
    check_float(text)
    check_float("g (float[3,8] x, float[8] z) => (float[n] y) { y = MatMul(x, z) }")


def test_constant_batch_of_matrices() -> None:
    text = "g (float[2,3,8] x) => (float[n,m] y) { y = MatMul(x, w) }"
    assert check_float(text, {"w": random(2, 8, 5)}).ops == ["BATCH_MATMUL"]


def test_keys_are_read_turned() -> None:
    text = """g (float[2,3,8] q, float[2,5,8] k) => (float[n,m] y) {
        t = Transpose<perm=[0,2,1]>(k) y = MatMul(q, t) }"""
    assert check_float(text).ops == ["BATCH_MATMUL"]
    assert check_integer(text, share=0.05).ops == ["BATCH_MATMUL"]


CNN = """g (float[2,3,6,6] x) => (float[n,m] y) {{
    c = Conv<pads=[1,1,1,1], strides=[2,2]>(x, k, a) r = Relu(c) f = {flatten}
    y = {product} }}"""


@pytest.mark.parametrize("flatten", ["Flatten(r)", "Reshape(r, s)"])
@pytest.mark.parametrize("product", ["Gemm<transB=1>(f, v, b)", "MatMul(f, w)"])
def test_flatten_turns_the_matrix_and_not_the_picture(flatten: str, product: str) -> None:
    constants = {
        "k": random(4, 3, 3, 3),
        "a": random(4),
        "w": random(36, 5),
        "v": random(5, 36),
        "b": random(5),
        "s": np.asarray([2, 36]),
    }
    text = CNN.format(flatten=flatten, product=product)
    used = {
        k: v
        for k, v in constants.items()
        if k in text.replace("(", " ").replace(",", " ").replace(")", " ").split()
    }
    for run in (check_float(text, used), check_integer(text, used, share=0.05)):
        assert run.count["TRANSPOSE"] == 0
        assert run.count["CONV_2D"] == run.count["FULLY_CONNECTED"] == 1


def test_refused() -> None:
    text = "g (float[2,3] x, float[3,4] w) => (float[n,m] y) { y = Gemm(x, w, c) }"
    with pytest.raises(QCompileError, match="matrix is computed"):
        lowered(parse(text, {"c": random(4)}))


@pytest.mark.parametrize("product", ["Gemm(x, w, b)", "MatMul(x, w)"])
def test_activations_quantized_as_it_runs(product: str) -> None:
    """Integers for the matrix, floats around it; near the float product."""
    text = f"g (float[3,64] x) => (float[n,m] y) {{ y = {product} }}"
    constants = {"w": random(64, 16), "b": random(16)}
    model = parse(text, {k: v for k, v in constants.items() if f" {k}" in product})
    plan = draft(model, target=TARGET, scheme="w8a8-dynamic")
    choose_weights(model.graph, plan, TARGET, None)
    qdq = model.clone()
    InsertQDQ(plan)(qdq)
    assert "DynamicQuantizeLinear" in [node.op_type for node in qdq.graph]
    run, feeds = lowered(qdq), noise(model)
    assert run.ops == ["FULLY_CONNECTED"]
    assert len(run.lowered.data) < 4000  # the matrix as floats has 4096 bytes
    want = session(model).run(feeds)[0]
    for runtime in ("reference", "xnnpack"):
        error = run.outputs(feeds, runtime)[0] - want
        assert 10 * np.log10(np.sum(want**2) / np.sum(error**2)) > 35
