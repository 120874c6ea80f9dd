"""AVERAGE_POOL_2D and MAX_POOL_2D; input and output share parameters."""

import numpy as np

from qcompile.core.numerics.affine import limits
from qcompile.targets.tflite.reference.call import Call, Kernel, clamp_range, finish_float
from qcompile.targets.tflite.reference.windows import windows


def average_pool_2d(call: Call) -> Kernel:
    """The mean of each window without its padding; integers as they are, halves away from zero."""
    kernel = _kernel(call)
    x = call.array(0) if call.is_float else call.array(0).astype(np.int64)
    sums = windows(call, x, kernel).sum(axis=(4, 5))
    counts = windows(call, np.ones((1, *x.shape[1:3], 1), np.int64), kernel).sum(axis=(4, 5))
    if call.is_float:
        return [finish_float(call, (sums / counts).astype(np.float32))]
    magnitude = (np.abs(sums) + counts // 2) // counts
    return [_clamped(call, np.sign(sums) * magnitude)]


def max_pool_2d(call: Call) -> Kernel:
    """The greatest of each window."""
    fill = -np.inf if call.is_float else limits(call.x.dtype)[0]
    greatest = windows(call, call.array(0), _kernel(call), fill).max(axis=(4, 5))
    return [finish_float(call, greatest) if call.is_float else _clamped(call, greatest)]


def _kernel(call: Call) -> tuple[int, int]:
    return int(call.option("filterHeight")), int(call.option("filterWidth"))


def _clamped(call: Call, q: np.ndarray) -> np.ndarray:
    activation = int(call.option("fusedActivationFunction", 0))
    taken = call.xnnpack and call.op == "MAX_POOL_2D"
    low, high = clamp_range(call.y, activation, xnnpack=taken)
    return np.asarray(np.clip(q, low, high).astype(call.y.dtype))
