"""Codes as the block kernels store them: packing, repeated scales, the block that is smallest."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.numerics.packing import unpack
from qcompile.targets.onnxruntime.blocks import block_size, blocks_of
from tests.passes.prepare.checking import parse, rand


@pytest.mark.parametrize(
    ("rows", "group", "bits", "expected"),
    [
        (64, 32, 4, 32),
        (64, 16, 4, 16),
        (576, 96, 4, 32),  # three blocks of one scale
        (576, 576, 4, 64),  # 256 would fill a quarter of the last block
        (1024, 4096, 8, 256),
        (20, 20, 4, 32),
        (40, 40, 8, 16),
        (64, 16, 2, None),
        (64, 20, 4, None),
    ],
)
def test_the_smallest_file(rows, group, bits, expected):
    assert block_size(rows, group, bits) == expected


def dequantizer(codes, scale, zero, kind: ir.DataType, attributes: str) -> ir.Node:
    shape = "x".join(map(str, codes.shape)).replace("x", ", ")
    model = parse(
        f"""g (float[a] x) => (float[{shape}] y) {{
            y = DequantizeLinear <{attributes}> (c, s, z)
        }}""",
        {"c": codes, "s": scale, "z": zero},
    )
    for name in ("c", "z"):
        value = model.graph.initializers[name]
        array = value.const_value.numpy().astype(kind.numpy())
        value.const_value, value.type = ir.Tensor(array, dtype=kind), ir.TensorType(kind)
    return next(iter(model.graph))


def codes_of(rows, columns, bits, seed=0):
    return np.random.default_rng(seed).integers(0, 2**bits, (rows, columns)).astype(np.uint8)


KINDS = {2: ir.DataType.UINT2, 4: ir.DataType.UINT4, 8: ir.DataType.UINT8}


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("rows", "group"), [(64, 32), (80, 32), (96, 96)])
def test_every_code_scale_and_zero_point_is_found_again(bits, rows, group):
    count, columns = -(-rows // group), 5
    codes, zero = codes_of(rows, columns, bits), codes_of(count, columns, bits, 1)
    scale = rand(count, columns)
    node = dequantizer(codes, scale, zero, KINDS[bits], f"axis = 0, block_size = {group}")
    made = blocks_of(node, 0)
    assert made is not None
    assert made.zero_points is not None
    size, count = made.size, made.codes.shape[1]
    back = unpack(made.codes, bits, size).reshape(columns, -1)[:, :rows].T
    assert np.array_equal(back, codes)
    owner = np.arange(count) * size // group
    assert np.array_equal(made.scales.T, scale[owner])
    assert np.array_equal(unpack(made.zero_points, bits, count).T, zero[owner])


def test_rows_of_a_table_and_a_scale_a_row():
    codes, zero = codes_of(7, 64, 4), codes_of(7, 1, 4)
    scale = rand(7, 1)
    node = dequantizer(codes, scale[:, 0], zero[:, 0], KINDS[4], "axis = 0")
    made = blocks_of(node, 1)
    assert made is not None
    assert made.codes.shape == (7, 1, 32)
    assert np.array_equal(made.scales, scale)


def test_three_bits_in_four_need_no_zero_points():
    codes, zero = codes_of(64, 5, 3), np.full((2, 5), 4, np.uint8)
    node = dequantizer(codes, rand(2, 5), zero, KINDS[4], "axis = 0, block_size = 32")
    made = blocks_of(node, 0)
    assert made is not None
    assert made.zero_points is None
    assert np.array_equal(unpack(made.codes, 4, 32).reshape(5, 64).T, codes + 4)


@pytest.mark.parametrize(
    ("kind", "attributes", "scale", "axis"),
    [
        (ir.DataType.INT8, "axis = 0, block_size = 32", (2, 5), 0),  # signed
        (ir.DataType.UINT8, "axis = 1, block_size = 5", (64, 1), 0),  # along N
        (ir.DataType.UINT8, "axis = 0", (64,), 0),  # a scale a row of K
        (ir.DataType.UINT8, "axis = 0", (), 0),  # one scale
        (ir.DataType.UINT8, "axis = 0, block_size = 20", (4, 5), 0),
    ],
)
def test_what_no_kernel_reads(kind, attributes, scale, axis):
    codes = codes_of(64, 5, 7)
    node = dequantizer(
        codes, np.ones(scale, np.float32), np.zeros(scale, np.uint8), kind, attributes
    )
    assert blocks_of(node, axis) is None


def test_no_dequantizer_is_no_weight():
    assert blocks_of(None, 0) is None
    model = parse("g (float[n, 4] x) => (float[n, 4] y) { y = Tanh (x) }")
    assert blocks_of(next(iter(model.graph)), 0) is None
