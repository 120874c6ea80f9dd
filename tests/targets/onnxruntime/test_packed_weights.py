"""What ONNX Runtime reads of packed weights, bit by bit: codes of every width, in both kernels."""

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from qcompile.core.numerics.packing import pack
from tests.targets.onnxruntime.running import run_bytes

MS = "com.microsoft"


def model(node: onnx.NodeProto, x: list[int], kind: int, y: list[int], **arrays) -> bytes:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from([2, 4, 8]), st.integers(1, 3), st.integers(1, 20), st.integers(0, 2**16),
    st.booleans(),
)  # fmt: skip
def test_products(bits: int, blocks: int, columns: int, seed: int, zeros: bool) -> None:
    """With the identity for x, at the level of floats, the product is the weight itself."""
    block, rows = 32, 32 * blocks
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << bits, (columns, blocks, block))
    scale = rng.integers(1, 9, (columns, blocks)).astype(np.float32) / 8  # products are exact
    zero = rng.integers(0, 1 << bits, (columns, blocks)) if zeros else np.full(scale.shape, 0)
    arrays = {"b": pack(codes, bits), "s": scale}
    if zeros:
        arrays["z"] = pack(zero, bits)
    node = helper.make_node(
        "MatMulNBits", ["x", *arrays], ["y"], domain=MS, K=rows, N=columns, bits=bits,
        block_size=block, accuracy_level=0,
    )  # fmt: skip
    data = model(node, [rows, rows], TensorProto.FLOAT, [rows, columns], **arrays)
    (got,) = run_bytes(data, {"x": np.eye(rows, dtype=np.float32)})
    middle = zero if zeros else np.full(scale.shape, 1 << (bits - 1))
    want = (codes - middle[..., None]) * scale[..., None]
    assert np.array_equal(got, want.reshape(columns, rows).T.astype(np.float32))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from([2, 4, 8]), st.integers(1, 3), st.integers(1, 20), st.integers(0, 2**16))
def test_rows_of_tables(bits: int, blocks: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << bits, (rows, 32 * blocks))
    scale = rng.integers(1, 9, (rows, blocks)).astype(np.float32) / 8
    arrays = {"t": pack(codes, bits), "i": np.arange(rows), "s": scale}
    node = helper.make_node(
        "GatherBlockQuantized", ["t", "x", "s"], ["y"], domain=MS, bits=bits, block_size=32,
        gather_axis=0, quantize_axis=1,
    )  # fmt: skip
    index = arrays.pop("i")
    data = model(node, [rows], TensorProto.INT64, [rows, 32 * blocks], **arrays)
    (got,) = run_bytes(data, {"x": index})
    want = (codes - (1 << (bits - 1))) * np.repeat(scale, 32, axis=1)
    assert np.array_equal(got, want.astype(np.float32))
