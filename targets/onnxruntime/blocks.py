"""Weights behind a DequantizeLinear as ONNX Runtime's block kernels store them."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.packing import pack

MS: Final = "com.microsoft"

BITS: Final = {ir.DataType.UINT8: 8, ir.DataType.UINT4: 4, ir.DataType.UINT2: 2}
"""Types whose codes the kernels read."""

SMALLEST: Final = {8: 16, 4: 16, 2: 32}
"""Bits of a code -> the smallest block; with 2 bits a block of 16 is computed in floats."""

_LARGEST: Final = 256
"""Larger blocks save less than 1 % of the file."""

_BYTES_OF_A_SCALE: Final = 4


@dataclass(frozen=True, eq=False)
class Blocks:
    """A matrix of K x N codes: blocks along K of a power of two, of one scale each."""

    bits: int
    size: int
    """Elements of a block."""
    rows: int
    """K."""
    codes: np.ndarray
    """Packed, uint8 (N, blocks, size * bits / 8); the last block is filled with zeros."""
    scales: np.ndarray
    """float32 (N, blocks)."""
    zero_points: np.ndarray | None
    """Packed, uint8 (N, ceil(blocks * bits / 8)); None where all are ``2^(bits-1)``."""


def blocks_of(dequantizer: ir.Node | None, axis: int, *, whole: bool = False) -> Blocks | None:
    """What a DequantizeLinear gives, as blocks along ``axis``; None where kernels cannot have it.

    Matched: a constant matrix of 2, 4 or 8 bits without sign, with constant scales and zero points
    of blocks along ``axis`` or of whole lines along it. A block that is no power of two is cut into
    ones that are, each with its scale again.

    Codes whose zero points are all alike are moved so that these become ``2^(bits-1)``, where they
    fit: as 3-bit codes do, stored in 4 bits.

    ``whole``: the last block must be full, as the kernel for look-ups demands.
    """
    found = _constants(dequantizer, axis)
    if found is None:
        return None
    bits, codes, scale, zero, group = found
    size = block_size(codes.shape[0], group, bits, whole=whole)
    if size is None:
        return None
    codes, zero = _centred(codes, zero, bits)
    count = -(-codes.shape[0] // size)
    owner = np.arange(count) * size // group
    filled = np.zeros((codes.shape[1], count * size), np.uint8)
    filled[:, : codes.shape[0]] = codes.T
    filled = filled.reshape(codes.shape[1], count, size)
    zeros = None
    if (zero != 2 ** (bits - 1)).any():
        zeros = pack(np.ascontiguousarray(zero[owner].T), bits)
    scales = np.ascontiguousarray(scale[owner].T, np.float32)
    return Blocks(bits, size, codes.shape[0], pack(filled, bits), scales, zeros)


def block_size(rows: int, group: int, bits: int, *, whole: bool = False) -> int | None:
    """Elements of a block for groups of that many elements: the one with the smallest file.

    A group that is longer than K is one block or more; any other must be made of whole blocks. With
    ``whole`` so must K. None where they are not.
    """
    sizes = []
    size = SMALLEST[bits]
    while size <= _LARGEST:
        if (group >= rows or group % size == 0) and not (whole and rows % size):
            sizes.append(size)
        size *= 2
    # Of equal ones the one that fills a column, as a tied table needs; then the largest.
    order = {size: (_bytes(rows, size, bits), rows % size > 0, -size) for size in sizes}
    return min(sizes, key=lambda size: order[size], default=None)


def _bytes(rows: int, size: int, bits: int) -> int:
    """Of a column."""
    return -(-rows // size) * (size * bits // 8 + _BYTES_OF_A_SCALE)


def _constants(
    node: ir.Node | None, axis: int
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray, int] | None:
    """Bits, codes (K, N), scales and zero points (groups, N), elements of a group."""
    if node is None or node.op_type != "DequantizeLinear" or len(node.inputs) != 3:
        return None
    kind = node.inputs[0].dtype if node.inputs[0] is not None else None
    codes, scale, zero = (g.constant(value) for value in node.inputs)
    if kind not in BITS or codes is None or scale is None or zero is None or codes.ndim != 2:
        return None
    along, block = g.attribute_int(node, "axis", 1) % 2, g.attribute_int(node, "block_size", 0)
    if block and (scale.ndim != 2 or along != axis):
        return None
    if not block:
        if scale.ndim != 1 or along == axis:
            return None
        scale, zero, block = scale.reshape(1, -1), zero.reshape(1, -1), codes.shape[axis]
    elif axis == 1:
        scale, zero = scale.T, zero.T
    columns = codes if axis == 0 else codes.T
    return BITS[kind], columns.astype(np.uint8), scale, zero.astype(np.uint8), block


def _centred(codes: np.ndarray, zero: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and zero points, moved by one number that makes all of these the usual one."""
    middle, first = 2 ** (bits - 1), int(zero.flat[0])
    shift = middle - first
    if not shift or (zero != first).any():
        return codes, zero
    if int(codes.min()) + shift < 0 or int(codes.max()) + shift > 2**bits - 1:
        return codes, zero
    return (codes.astype(np.int16) + shift).astype(np.uint8), np.full_like(zero, middle)
