"""FULLY_CONNECTED and BATCH_MATMUL."""

import numpy as np

from qcompile.targets.tflite.reference.accumulate import (
    product,
    rescale,
    rescale_by_double,
    rescale_by_multiplier,
    with_bias,
)
from qcompile.targets.tflite.reference.call import Call, Kernel, finish, finish_float
from qcompile.targets.tflite.reference.multiplier import (
    double_rounding,
    float_rule,
    quantize_multiplier,
    wide,
)

_A_BYTE = {"int4": 2, "int2": 4}
"""How many weights share a byte: XNNPACK takes rows of whole bytes alone."""


def fully_connected(call: Call) -> Kernel:
    """Weights (O, I), per-tensor or per-channel along 0; all axes before the last are rows."""
    w = call.array(1)
    x = call.array(0) if call.is_float else call.centered(0)
    keep = bool(call.option("keepNumDims", False))
    shape = (*x.shape[:-1], w.shape[0]) if keep else (-1, w.shape[0])
    columns = x.reshape(-1, w.shape[1])
    if call.is_float:
        sums = with_bias(call, columns @ _real(call, 1).T, 2)
        return [finish_float(call, sums).reshape(shape)]
    weights = call.centered(1)
    sums = with_bias(call, product(columns, weights.T), 2)
    if call.xnnpack and w.shape[1] % _A_BYTE.get(call.tensor(1).dtype, 1) == 0:
        return [rescale(call, sums, 1).reshape(shape)]
    scales = call.tensor(1).scales
    assert scales is not None
    # Per-tensor the product of the scales is taken in float32, per-channel in float64.
    if scales.size == 1:
        products = (call.x.scale * scales).astype(np.float64)
    else:
        products = np.float64(call.x.scale) * scales.astype(np.float64)
    real = products / np.float64(call.y.scale)
    if call.rule == "micro":
        return [rescale_by_multiplier(call, sums, real).reshape(shape)]
    return [rescale_by_double(call, sums, real).reshape(shape)]


def batch_matmul(call: Call) -> Kernel:
    """``x @ y`` over the leading axes, either transposed by adjX, adjY; per-tensor."""
    pair = [call.array(i) if call.is_float else call.centered(i) for i in (0, 1)]
    if call.option("adjX", False):
        pair[0] = np.swapaxes(pair[0], -1, -2)
    if call.option("adjY", False):
        pair[1] = np.swapaxes(pair[1], -1, -2)
    if call.is_float:
        return [np.matmul(pair[0], pair[1]).astype(np.float32)]
    sums = product(pair[0], pair[1])
    ratio = call.x.scale * call.tensor(1).scale
    if call.xnnpack and call.tensor(1).zero_point == 0:  # XNNPACK takes no other
        return [finish(call, float_rule(sums, np.asarray(ratio / call.y.scale)))]
    by = quantize_multiplier(np.float64(ratio) / np.float64(call.y.scale))
    return [finish(call, (wide if call.y.dtype == "int16" else double_rounding)(sums, by))]


def _real(call: Call, index: int) -> np.ndarray:
    """Weights as real numbers: float ones, or integers of a weight-only quantization."""
    tensor = call.tensor(index)
    if not tensor.is_integer or tensor.scales is None:
        return call.array(index)
    return np.asarray(call.centered(index).astype(np.float32) * tensor.scales.reshape(-1, 1))
