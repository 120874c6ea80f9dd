"""Rows with a scale each: what is computed, what runtimes make of it, and that it happens once."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.core.numerics.affine import LIMITS, zero_offset
from qcompile.core.plan import NodePlan, QuantPlan
from qcompile.passes.quantize.insert_qdq import InsertQDQ
from qcompile.passes.quantize.token_scales import products_of_tokens, token_type
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.passes.prepare.checking import parse, rand

W = rand(16, 6, seed=1)
B = rand(6, seed=2)
X = (rand(2, 5, 16, seed=3) * np.asarray([1, 30, 0.01, 0, 4])[:, None]).astype(np.float32)


def graph(body: str, **constants: np.ndarray) -> ir.Model:
    feed = "float[N, 16] x" if "Gemm" in body else "float[N, 5, 16] x"
    return parse(f"g ({feed}) => (float[] y) {{ {body} }}", {"w": W, **constants})


def plan(model: ir.Model, activations: str) -> QuantPlan:
    nodes = {
        node.name or "": NodePlan(node.name or "", node.op_type, "dynamic", activations=activations)
        for node in model.graph
        if node.op_type in {"MatMul", "Gemm"}
    }
    return QuantPlan("", "", "", nodes=nodes)


def by_token(x: np.ndarray, dtype: str) -> np.ndarray:
    """The rows rounded, as the docstring has it."""
    step = 1 / np.float32(LIMITS[dtype][1] - zero_offset(dtype))
    reach = np.maximum(np.abs(x).max(axis=-1, keepdims=True), 2.0**-100)
    return np.float64(np.rint(x / reach / step) * step) * reach


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int4"])
def test_each_row_has_its_own_scale(dtype: str) -> None:
    model = graph("y = MatMul (x, w)")
    InsertQDQ(plan(model, f"{dtype} token"))(model)
    got = OrtExecutor().load(model, optimize=False).run({"x": X})[0]
    wanted = by_token(X, dtype) @ W
    assert np.abs(got - wanted).max(axis=-1) == pytest.approx(0, abs=1e-5 * np.abs(wanted).max())
    for row in range(5):  # also in the small rows, beside the large ones
        size = np.abs(wanted[:, row]).max()
        assert np.abs(got - wanted)[:, row].max() <= 1e-5 * size


def test_a_bias_comes_after_the_scales() -> None:
    model = graph("y = Gemm <beta = 0.5, alpha = 2.0> (x, w, b)", b=B)
    InsertQDQ(plan(model, "uint8 token"))(model)
    got = OrtExecutor().load(model, optimize=False).run({"x": X[0]})[0]
    wanted = 2 * by_token(X[0], "uint8") @ W + 0.5 * B
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_what_several_nodes_read_is_quantized_once() -> None:
    body = "a = MatMul (x, w) b = MatMul (x, v) c = Relu (x) d = ReduceMax <keepdims=1> (c) "
    model = graph(body + "e = Add (a, b) y = Add (e, d)", v=rand(16, 6, seed=5))
    quantizer = InsertQDQ(plan(model, "uint8 token"))
    assert quantizer(model).modified
    ops = [node.op_type for node in model.graph]
    assert ops.count("QuantizeLinear") == ops.count("Abs") == 1
    assert len(products_of_tokens(model)) == 2
    before = len(ops)
    assert not quantizer(model).modified
    assert len(list(model.graph)) == before
    onnx.checker.check_model(ir.to_proto(model))


@pytest.mark.parametrize(
    ("text", "dtype"),
    [("uint8 token", "uint8"), ("int4 token", "int4"), ("int16", ""), ("", ""), ("no token", "")],
)
def test_what_a_plan_says_of_a_node(text: str, dtype: str) -> None:
    assert token_type(text) == dtype
