"""Comparisons, which scale both sides to 2**-8 of a unit, and the operators on truth values."""

from collections.abc import Callable

import numpy as np

from qcompile.targets.tflite.reference.call import Call, Kernel
from qcompile.targets.tflite.reference.multiplier import (
    divide_by_power,
    high_multiply,
    quantize_multiplier,
)

_SHIFT = 8


def equal(call: Call) -> Kernel:
    """``x == y``."""
    return _compared(call, np.equal)


def not_equal(call: Call) -> Kernel:
    """``x != y``."""
    return _compared(call, np.not_equal)


def greater(call: Call) -> Kernel:
    """``x > y``."""
    return _compared(call, np.greater)


def greater_equal(call: Call) -> Kernel:
    """``x >= y``."""
    return _compared(call, np.greater_equal)


def less(call: Call) -> Kernel:
    """``x < y``."""
    return _compared(call, np.less)


def less_equal(call: Call) -> Kernel:
    """``x <= y``."""
    return _compared(call, np.less_equal)


def logical_and(call: Call) -> Kernel:
    """Both."""
    return [np.logical_and(call.array(0), call.array(1))]


def logical_or(call: Call) -> Kernel:
    """Either."""
    return [np.logical_or(call.array(0), call.array(1))]


def logical_not(call: Call) -> Kernel:
    """Neither more nor less."""
    return [np.logical_not(call.array(0))]


def select_v2(call: Call) -> Kernel:
    """The second input where the first is true, else the third; parameters are shared."""
    return [np.where(call.array(0), call.array(1), call.array(2))]


def _compared(call: Call, test: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Kernel:
    if call.x.dtype not in ("int8", "uint8") or not call.x.is_quantized:
        return [test(call.array(0), call.array(1))]
    return [test(_scaled(call, 0), _scaled(call, 1))]


def _scaled(call: Call, index: int) -> np.ndarray:
    """Real numbers in units of 2**-8: close ones become equal."""
    by = quantize_multiplier(np.float64(call.tensor(index).scale))
    return divide_by_power(high_multiply(call.centered(index) << _SHIFT, by.q), -by.e)
