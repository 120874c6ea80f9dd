"""Weights that make up for what the quantized prefix did to a layer's inputs.

A layer gets X where the float model has Z. The weights v with ``v X`` nearest to ``w Z`` solve
``H v = X Z^T w = (H + D) w`` with ``H = X X^T`` and ``D = X (Z - X)^T``, and rounding aims at them
in place of w (GPTAQ, Li et al. 2025, there input by input). Estimated from few samples v follows
their chance, so H is damped by a tenth and half the way is gone.

Measured: with weights of 4 bits it gives 1 dB of the logits on a ResNet and 3 dB on a MobileNet;
with weights of 8 bits it costs up to 1 dB, since there the drift is mostly the rounding of
activations, which no weight can undo.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.passes.rounding.gptq import damped
from qcompile.passes.rounding.gram import rows_a_sample
from qcompile.passes.rounding.windows import inputs_of_outputs

_DAMPING: Final = 0.1
_PART: Final = 0.5


def drift(
    stored: Sequence[np.ndarray],
    zero: int,
    floats: Sequence[np.ndarray],
    scale: float,
    node: ir.Node,
    kernel: Sequence[int],
    groups: int,
    depth: int,
    *,
    centred: bool,
) -> np.ndarray:
    """``D = X (Z - X)^T`` of each group, in steps of the input: float64 (groups, K, K).

    Args:
        stored: the layer's input, one array of integers a sample.
        zero: their zero point.
        floats: the same of the float model.
        scale: of the integers.
        node: Conv, ConvTranspose, Gemm or MatMul.
        kernel: extent of its kernel; empty for a matrix product.
        groups: groups of its channels.
        depth: K, inputs of one output.
        centred: take both around their means, as a corrected bias does.
    """
    product = np.zeros((groups, depth, depth))
    sums, differences, rows = np.zeros((groups, depth)), np.zeros((groups, depth)), 0
    most = rows_a_sample(len(stored), depth)
    for index, (integers, real) in enumerate(zip(stored, floats, strict=True)):
        x, z = (
            inputs_of_outputs(a, node, kernel, groups, pad, most=most, first=index).astype(
                np.float32
            )
            for a, pad in ((integers, zero), (real, 0.0))
        )
        x -= np.float32(zero)
        z /= np.float32(scale)
        z -= x
        product += x @ z.swapaxes(1, 2)
        sums += x.sum(axis=2, dtype=np.float64)
        differences += z.sum(axis=2, dtype=np.float64)
        rows += x.shape[2]
    if centred and rows:
        product -= sums[:, :, np.newaxis] * (differences[:, np.newaxis] / rows)
    return product


def shifted(steps: np.ndarray, hessian: np.ndarray, drifted: np.ndarray) -> np.ndarray:
    """Weights in steps that make up for part of a drift: (groups, K, M)."""
    change = np.linalg.solve(damped(hessian, _DAMPING), drifted @ steps)
    found: np.ndarray = steps + _PART * change
    return found
