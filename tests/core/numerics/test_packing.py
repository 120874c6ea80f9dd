"""Packed codes against ONNX's own packing, and back, for every width and number of codes."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.numerics.packing import pack, unpack


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 3), st.integers(1, 37), st.integers(0, 2**16))
def test_what_is_packed_is_unpacked(bits: int, rows: int, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, count))
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (rows, -(-count * bits // 8))
    assert np.array_equal(unpack(packed, bits, count), codes)


def test_the_first_code_is_lowest() -> None:
    assert pack(np.asarray([1, 2, 3]), 4).tolist() == [0x21, 0x03]
    assert pack(np.asarray([1, 2, 3, 0, 2]), 2).tolist() == [0b00111001, 0b10]
    assert pack(np.asarray([1, 0, 1, 1]), 1).tolist() == [0b1101]
    assert pack(np.asarray([-1, -8]), 4).tolist() == [0x8F]


@pytest.mark.parametrize("kind", ["UINT4", "INT4", "UINT2", "INT2"])
@given(st.integers(1, 33), st.integers(0, 2**16))
def test_as_onnx_packs_its_tensors(kind: str, count: int, seed: int) -> None:
    bits = int(kind[-1])
    low = -(1 << (bits - 1)) if kind[0] == "I" else 0
    codes = np.random.default_rng(seed).integers(low, low + (1 << bits), count)
    stored = codes.astype(ir.DataType[kind].numpy())
    proto = ir.to_proto(ir.Tensor(stored, dtype=ir.DataType[kind], name="w"))
    assert proto.raw_data == pack(codes, bits).tobytes()
    assert np.array_equal(onnx.numpy_helper.to_array(proto).astype(np.int64), codes)
