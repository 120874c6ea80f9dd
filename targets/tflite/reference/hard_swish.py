"""HARD_SWISH, ``x * clip(x + 3, 0, 6) / 6``, in integers of 16 bits.

Source: LiteRT, ``reference/hard_swish.h``.
"""

import numpy as np

from qcompile.targets.tflite.reference.call import Call, Kernel, finish
from qcompile.targets.tflite.reference.multiplier import (
    Multiplier,
    divide_by_power,
    quantize_multiplier,
)

_RAISED_BITS = 7
_LOW, _HIGH = -32768, 32767


def hard_swish(call: Call) -> Kernel:
    """The input raised by 7 bits, scaled once to the output, once to [0, 1]; their product."""
    if call.is_float:
        x = call.array(0)
        return [x * np.clip(x + np.float32(3), np.float32(0), np.float32(6)) / np.float32(6)]
    raised_scale = np.float32(1 / 128) * call.x.scale
    to_output = _reduced(raised_scale / call.y.scale)
    to_gate = _reduced(raised_scale / np.float32(3 / 32768))
    raised = call.centered(0) << _RAISED_BITS
    on_output = _high(raised, to_output.q)
    product = on_output * _gate(raised, to_gate)
    # The last product truncates: the biases of the two roundings before it cancel so.
    shifted = np.sign(product) * (np.abs(product) >> 15)
    return [finish(call, divide_by_power(shifted, -to_output.e), 0)]


def _gate(raised: np.ndarray, by: Multiplier) -> np.ndarray:
    """``clip(x + 3, 0, 6) / 6`` in 2**-15; saturated where the scaling goes beyond [-1, 1]."""
    e = int(by.e)
    x = _clip(raised << (e - 1)) if e > 0 else raised
    x = _high(x, by.q)
    if e > 0:
        x = _clip(x << 1)
    if e < 0:
        x = divide_by_power(x, -e)
    return (x + (1 << 15)) >> 1


def _reduced(real: np.float32) -> Multiplier:
    """A multiplier of 16 bits."""
    by = quantize_multiplier(real)
    q = 32767 if by.q >= (1 << 31) - 1 - (1 << 15) else (by.q + (1 << 15)) >> 16
    return Multiplier(np.asarray(q), by.e)


def _high(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a * b / 2**15``, halves up: the 16-bit twin of high_multiply."""
    return np.asarray(np.minimum((a * b + (1 << 14)) >> 15, _HIGH))


def _clip(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(x, _LOW, _HIGH))
