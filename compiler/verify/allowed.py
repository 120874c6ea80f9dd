"""How far one operator's results may lie apart between machines when its inputs are equal.

Measured with random and with hot inputs on x86-64 (AVX2) against QEMU's cortex-a53, a72, a76,
neoverse-n1, neoverse-v1 and max; ONNX Runtime 1.32.0, LiteRT 2.3.0. Integer kernels that sum in a
type too small for it (U8S8 on AVX2) are no such difference: they part from the sums themselves.
"""

from collections.abc import Mapping
from typing import Final, Literal

Runtime = Literal["onnxruntime", "tflite"]

STEPS: Final[Mapping[Runtime, Mapping[str, int]]] = {
    # Any processor against exact sums; 0 for every operator but these.
    "onnxruntime": {
        "Add": 1,  # in floats, multiplied and added in one rounding on ARM: 1 of 16384 values
        "Resize": 1,  # bilinear: 0.005 % of the values
    },
    # XNNPACK, ARM against x86, which is our reference by XNNPACK's rule; 0 for every other one.
    "tflite": {
        "SOFTMAX": 1,  # not XNNPACK's: the built-in kernel
        "LOG_SOFTMAX": 1,
        "TRANSPOSE_CONV": 1,  # declined by XNNPACK where the kernel is narrower than the stride
    },
}
"""Runtime -> operator -> steps (LSB) of its output."""

FROM_FLOATS: Final = 1
"""Steps of a value that floats were rounded to: their last bits may lie on two sides of a tie."""

SHARE: Final[Mapping[str, float]] = {
    "Softmax": 1e-6,  # 3 to 5 units in the last place
    "Exp": 1e-6,  # 2 with SVE
    "Softplus": 1e-6,  # 4
    "LayerNormalization": 1e-5,  # 1e-6 absolute
    "Conv": 2e-5,  # 4e-6 absolute; a whole MobileNet's logits 2e-5
    "ConvTranspose": 2e-5,
    "Gemm": 2e-5,
    "MatMul": 2e-5,
}
"""Operator on floats -> difference as a share of the largest number of its result."""

ANY_SHARE: Final = 2e-6
"""For operators on floats that were measured equal (Sigmoid, Tanh, Erf, Gelu) or not at all."""


def allowed(runtime: Runtime, op: str, *, steps: bool, integer: bool) -> float:
    """What an operator may differ by.

    Args:
        runtime: whose kernels.
        op: its name in the file.
        steps: whether its result is stored in integers, so that steps of it are counted; else the
            share of the largest number.
        integer: whether it reads integers as well.
    """
    if not steps:
        return SHARE.get(op, ANY_SHARE)
    own = STEPS[runtime].get(op, 0)
    return float(own if integer else max(own, FROM_FLOATS))
