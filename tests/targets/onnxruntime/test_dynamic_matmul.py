"""A dynamic MatMul or Gemm becomes integer ops with the sums of its QDQ form."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.targets.onnxruntime.dynamic_matmul import DynamicMatMul
from tests.passes.prepare.checking import inits, ops, parse, rand, unchanged
from tests.targets.onnxruntime.running import run_plain

K, N = 24, 6
QUANTIZED = "q, s, z = DynamicQuantizeLinear (x)\n a = DequantizeLinear (q, s, z)\n"


def weight(dtype: str, channels: bool, transposed: bool = False) -> dict[str, np.ndarray]:
    """A weight w, its scales ws and its zero points wz; S8 so small that AVX2 cannot saturate."""
    rng = np.random.default_rng(1)
    low, high = (-64, 64) if dtype == "int8" else (0, 256)
    w = rng.integers(low, high, (N, K) if transposed else (K, N)).astype(dtype)
    shape = (N,) if channels else ()
    scales = (rng.random(shape) * 0.01 + 0.001).astype(np.float32)
    zero = np.full(shape, 0 if dtype == "int8" else 128, dtype)
    return {"w": w, "ws": scales, "wz": zero}


def matmul(constants: dict[str, np.ndarray], axis: int = 1, rank: int = 2) -> ir.Model:
    dims = "n" if rank == 2 else "n, t"
    return parse(
        f"""g (float[{dims}, {K}] x) => (float[{dims}, {N}] y) {{
            {QUANTIZED}
            b = DequantizeLinear <axis = {axis}> (w, ws, wz)
            y = MatMul (a, b)
        }}""",
        constants,
    )


def gemm(
    constants: dict[str, np.ndarray], attributes: str = "", axis: int = 1, bias: str = ""
) -> ir.Model:
    return parse(
        f"""g (float[n, {K}] x) => (float[n, {N}] y) {{
            {QUANTIZED}
            b = DequantizeLinear <axis = {axis}> (w, ws, wz)
            y = Gemm {attributes} (a, b{bias})
        }}""",
        constants,
    )


def equal_after(model: ir.Model, x: np.ndarray) -> None:
    """Rewritten, the outputs agree to a few last bits, and a second run changes nothing."""
    ends = [(v.name, v.dtype) for v in model.graph.outputs]
    before = run_plain(model, {"x": x})
    assert DynamicMatMul()(model).modified
    assert "DequantizeLinear" not in ops(model)
    assert [(v.name, v.dtype) for v in model.graph.outputs] == ends
    for a, b in zip(before, run_plain(model, {"x": x}), strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= 4e-7 * max(np.abs(a).max(), 1e-30) * K
    unchanged(DynamicMatMul(), model)


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("rank", [2, 3])
def test_matmul(dtype: str, channels: bool, rank: int) -> None:
    shape = (3, K) if rank == 2 else (2, 3, K)
    equal_after(matmul(weight(dtype, channels), rank=rank), rand(*shape))


def test_the_last_axis_by_its_negative_number() -> None:
    equal_after(matmul(weight("int8", True), axis=-1), rand(3, K))


@pytest.mark.parametrize("bias", [np.float32(0.5), rand(N), rand(1, N)])
@pytest.mark.parametrize("transposed", [False, True])
def test_gemm(bias: np.ndarray, transposed: bool) -> None:
    constants = weight("int8", True, transposed) | {"c": np.asarray(bias)}
    attributes = "<transB = 1>" if transposed else ""
    model = gemm(constants, attributes, 0 if transposed else 1, ", c")
    equal_after(model, rand(3, K))
    assert ops(model)[-1] == "Add"


def test_gemm_without_bias() -> None:
    equal_after(gemm(weight("uint8", False)), rand(3, K))


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(2.0**-20, 2.0**20), shift=st.floats(-3, 3), rows=st.integers(1, 4))
def test_any_activations(scale: float, shift: float, rows: int) -> None:
    x = ((rand(rows, K) + np.float32(shift)) * np.float32(scale)).astype(np.float32)
    equal_after(matmul(weight("int8", True)), x)


def test_zero_points_of_zero_are_left_out() -> None:
    model = matmul(weight("int8", True))
    DynamicMatMul()(model)
    (product,) = (node for node in model.graph if node.op_type == "MatMulInteger")
    assert product.inputs[3] is None
    model = matmul(weight("uint8", True))
    DynamicMatMul()(model)
    (product,) = (node for node in model.graph if node.op_type == "MatMulInteger")
    assert product.inputs[3] is not None


def test_a_weight_that_two_read_is_transposed_once() -> None:
    model = parse(
        f"""g (float[n, {K}] x) => (float[n, {N}] y, float[n, {N}] t) {{
            {QUANTIZED}
            b = DequantizeLinear <axis = 0> (w, ws, wz)
            y = Gemm <transB = 1> (a, b)
            t = Gemm <transB = 1> (a, b)
        }}""",
        weight("int8", True, transposed=True),
    )
    equal_after(model, rand(3, K))
    assert sorted(inits(model)) == ["w", "w_transposed", "ws", "wz"]


def test_what_else_reads_the_weight_keeps_it() -> None:
    model = parse(
        f"""g (float[n, {K}] x) => (float[n, {N}] y, float[{K}, {N}] e) {{
            {QUANTIZED}
            b = DequantizeLinear (w, ws, wz)
            y = MatMul (a, b)
            e = Neg (b)
        }}""",
        weight("int8", True),
    )
    before = run_plain(model, {"x": rand(3, K)})
    assert DynamicMatMul()(model).modified
    assert ops(model).count("DequantizeLinear") == 1
    after = run_plain(model, {"x": rand(3, K)})
    assert np.array_equal(before[1], after[1])


def test_new_nodes_know_their_source() -> None:
    model = gemm(weight("int8", True) | {"c": rand(N)}, bias=", c")
    for node in model.graph:
        node.name = f"user_{node.op_type}"
    DynamicMatMul()(model)
    made = [n for n in model.graph if n.op_type != "DynamicQuantizeLinear"]
    assert {n.metadata_props["qcompile.source"] for n in made} == {"user_Gemm"}


@pytest.mark.parametrize("attributes", ["<transA = 1>", "<alpha = 0.5>", "<beta = 2.0>"])
def test_a_gemm_with_factors_or_a_transposed_left_side_is_left(attributes: str) -> None:
    constants = weight("int8", False) | {"c": rand(N)}
    if "transA" in attributes:
        constants["w"] = constants["w"][:3]
        text = gemm(constants, attributes, bias=", c")
    else:
        text = gemm(constants, attributes, bias=", c")
    unchanged(DynamicMatMul(), text)


def test_scales_along_the_sum_are_left() -> None:
    constants = weight("int8", False)
    constants |= {"ws": np.full(K, 0.01, np.float32), "wz": np.zeros(K, np.int8)}
    unchanged(DynamicMatMul(), matmul(constants, axis=0))


def test_scales_in_blocks_are_left() -> None:
    constants = weight("int8", False)
    constants |= {"ws": np.full((2, N), 0.01, np.float32), "wz": np.zeros((2, N), np.int8)}
    model = parse(
        f"""g (float[n, {K}] x) => (float[n, {N}] y) {{
            {QUANTIZED}
            b = DequantizeLinear <axis = 0, block_size = {K // 2}> (w, ws, wz)
            y = MatMul (a, b)
        }}""",
        constants,
    )
    unchanged(DynamicMatMul(), model)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            "q = QuantizeLinear (x, ws, wz)\n a = DequantizeLinear (q, ws, wz)\n"
            "b = DequantizeLinear (w, ws, wz)\n y = MatMul (a, b)",
            id="static activations",
        ),
        pytest.param(QUANTIZED + "b = Neg (f)\n y = MatMul (a, b)", id="float weight"),
        pytest.param(
            QUANTIZED + "b = DequantizeLinear (w3, ws, wz)\n y = MatMul (a, b)",
            id="stack of matrices",
        ),
        pytest.param(
            QUANTIZED + "wq = Neg (w)\n b = DequantizeLinear (wq, ws, wz)\n y = MatMul (a, b)",
            id="computed weight",
        ),
        pytest.param(
            QUANTIZED + "b = DequantizeLinear (w16, ws)\n y = MatMul (a, b)", id="16-bit weight"
        ),
        pytest.param(
            "q, s, z = DynamicQuantizeLinear (x)\n a = DequantizeLinear (q, ws, z)\n"
            "b = DequantizeLinear (w, ws, wz)\n y = MatMul (a, b)",
            id="another scale",
        ),
    ],
)
def test_left_alone(body: str) -> None:
    constants = weight("uint8" if "q = Quant" in body else "int8", False) | {
        "f": rand(K, N),
        "w3": np.zeros((2, K, N), np.int8),
        "w16": np.zeros((K, N), np.int16),
    }
    constants = {k: v for k, v in constants.items() if k in body.replace("(", " ( ")}
    model = parse(f"g (float[n, {K}] x) => (float[n, {N}] y) {{ {body} }}", constants)
    unchanged(DynamicMatMul(), model)
