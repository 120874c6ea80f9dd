"""Codes of fewer than eight bits in bytes: the first code in the lowest bits, nibbles low first.

Every format here agrees on it: ONNX's INT4 and INT2 tensors, ONNX Runtime's MatMulNBits and the
packed tensors of TFLite. What is left of the last byte is zero.
"""

import numpy as np


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes along the last axis as bytes, uint8 (..., ceil(n * bits / 8)).

    Args:
        codes: integers (..., n); of negative ones the lowest bits are taken (two's complement).
        bits: of a code: 1, 2, 4 or 8.
    """
    count = 8 // bits
    fields = codes.astype(np.uint8) & np.uint8((1 << bits) - 1)
    missing = -fields.shape[-1] % count
    if missing:
        fields = np.pad(fields, [(0, 0)] * (fields.ndim - 1) + [(0, missing)])
    fields = fields.reshape(*fields.shape[:-1], -1, count)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.asarray(np.bitwise_or.reduce(fields << shifts, axis=-1, dtype=np.uint8))


def unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first ``count`` codes of bytes along the last axis, uint8 (..., count)."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (packed[..., np.newaxis] >> shifts) & np.uint8((1 << bits) - 1)
    return np.asarray(fields.reshape(*packed.shape[:-1], -1)[..., :count])
