"""Biases: integers that count in steps of the input's scale times the weight's."""

import numpy as np

from qcompile.core.numerics.affine import limits
from qcompile.targets.tflite.builder import Quantization
from qcompile.targets.tflite.context import Context, Operand

_EQUAL = 1e-6
"""Relative difference up to which two scales are one, rounded differently."""


def bias_for(ctx: Context, bias: Operand | None, x: Operand, w: Operand, channels: int) -> Operand:
    """The bias of an operator as one number a channel; zeros where there is none.

    Kernels take it for granted that a bias counts in steps of ``s_x * s_w`` and do not look at its
    own scale. One that counts in others (it serves two layers, say) is counted anew. The QDQ graph
    has it in int32; beside int16 activations kernels take int64 alone: the same integers, widened.
    """
    name = f"{w.name}_bias" if bias is None else bias.name
    if x.quantization is None or w.quantization is None:
        zeros = np.zeros(channels, np.float32)
        return ctx.constant(name, zeros if bias is None else vector(bias, channels))
    scale = x.quantization.scale * w.quantization.scale
    params = Quantization.of(scale, np.zeros(()))
    kind = np.int64 if x.dtype == "int16" else np.int32
    if bias is None:
        return ctx.constant(name, np.zeros(channels, kind), params)
    integers = vector(bias, channels)
    own = scale if bias.quantization is None else bias.quantization.scale
    if own.size in (1, scale.size) and np.allclose(own, scale, rtol=_EQUAL, atol=0):
        own_params = Quantization.of(np.broadcast_to(own, scale.shape), np.zeros(()))
        return ctx.constant(name, integers.astype(kind), own_params)
    steps = np.rint(integers * (own.astype(np.float64) / scale.astype(np.float64)))
    counted = np.clip(steps, *limits("int32")).astype(kind)
    return ctx.constant(name, counted, params)


def vector(bias: Operand, channels: int) -> np.ndarray:
    """A constant bias as one number a channel."""
    assert bias.data is not None
    return np.ascontiguousarray(np.broadcast_to(bias.data.reshape(-1), (channels,)))
