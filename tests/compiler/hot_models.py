"""Models whose activations and weights are as large as 8 bits hold: sums of U8S8 overflow int16."""

import numpy as np
import onnx

from tests.compiler.small import text_model

K, ROWS, COLUMNS = 64, 4, 16
SUM = K * 255 * 127
"""What every element of the product is; two products alone are 64,770, and int16 ends at 32,767."""


def hot_float() -> onnx.ModelProto:
    """A Gemm of positive weights between two steps that are no work, on inputs from 0 to 1."""
    return text_model(
        f"""net (float[{ROWS}, {K}] x) => (float[{ROWS}, {COLUMNS}] y) {{
            a = Relu (x)
            b = Gemm (a, w, c)
            y = Relu (b)
        }}""",
        {"w": np.ones((K, COLUMNS), np.float32), "c": np.zeros(COLUMNS, np.float32)},
    )


def naive(dtype: str) -> onnx.ModelProto:
    """What a tool without regard for saturation writes: U8S8 or S8S8, its ends floats.

    The second Gemm, by the identity, hands on what the first one makes.
    """
    zero = np.array(0 if dtype == "uint8" else -128, dtype)
    step, weight = np.float32(1 / 255), np.float32(1 / 127)
    out = np.float32(K / 255)
    return text_model(
        f"""net (float[{ROWS}, {K}] x) => (float[{ROWS}, {COLUMNS}] y) {{
            xq = QuantizeLinear (x, sx, zero)
            xd = DequantizeLinear (xq, sx, zero)
            wd = DequantizeLinear (w, sw, zw)
            cd = DequantizeLinear (c, sc, zc)
            g = Gemm (xd, wd, cd)
            gq = QuantizeLinear (g, sg, zero)
            gd = DequantizeLinear (gq, sg, zero)
            id = DequantizeLinear (i, sw, zw)
            ed = DequantizeLinear (c, se, zc)
            h = Gemm (gd, id, ed)
            hq = QuantizeLinear (h, sg, zero)
            y = DequantizeLinear (hq, sg, zero)
        }}""",
        {
            "zero": zero, "zw": np.array(0, np.int8), "zc": np.array(0, np.int32),
            "sx": step, "sw": weight, "sg": out, "sc": step * weight, "se": out * weight,
            "w": np.full((K, COLUMNS), 127, np.int8), "i": 127 * np.eye(COLUMNS, dtype=np.int8),
            "c": np.zeros(COLUMNS, np.int32),
        },
    )  # fmt: skip


def hot_rows(count: int) -> np.ndarray:
    """Samples that are all as large as they can be but the first, which is mixed."""
    rows = np.ones((count, ROWS, K), np.float32)
    rows[0] = np.random.default_rng(0).uniform(size=(ROWS, K))
    return rows
