"""Integers of weights and biases: stored ones where a pass chose them, else the nearest."""

import numpy as np

from qcompile.core.numerics.affine import LIMITS, quantize, weight_limits
from qcompile.core.plan import QuantParams, ValuePlan


def weight_integers(array: np.ndarray, entry: ValuePlan, rounded: np.ndarray | None) -> np.ndarray:
    """The integers of a weight, of its shape; ``rounded`` if given, else round-half-to-even."""
    assert entry.params is not None
    if rounded is not None:
        return rounded
    q = quantize(array, entry.params.scale, entry.params.zero_point, entry.dtype, entry.axis)
    low, _ = weight_limits(entry.dtype)
    return q if low == LIMITS[entry.dtype][0] else np.maximum(q, np.int8(low))


def bias_integers(
    bias: np.ndarray, params: QuantParams, correction: np.ndarray | None
) -> np.ndarray:
    """Integers of a bias: ``saturate(rint((b + correction) / scale))`` in float64, as int32.

    Args:
        bias: float32, shape (channels,).
        params: scale ``s_x * s_w``, scalar or one a channel.
        correction: float32 (channels,), or None.

    """
    low, high = LIMITS["int32"]
    wanted = bias.astype(np.float64)
    if correction is not None:
        wanted = wanted + correction
    return np.clip(np.rint(wanted / params.scale.astype(np.float64)), low, high).astype(np.int32)
