"""ADD, SUB, MUL, DIV, SQUARED_DIFFERENCE, MINIMUM and MAXIMUM, with broadcasting."""

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.reference.call import Call, Kernel, finish, finish_float
from qcompile.targets.tflite.reference.multiplier import (
    double_rounding,
    float_rule,
    quantize_multiplier,
)

_SHIFTS = {"int16": 15}
"""How far sums of 16 bits are raised before they are scaled; 8 bits by 20."""
_SQUARE_SHIFT = 7
_XNNPACK_BITS = 20


def add(call: Call) -> Kernel:
    """The sum of two tensors."""
    return _sum(call, 1)


def sub(call: Call) -> Kernel:
    """The difference of two tensors."""
    return _sum(call, -1)


def mul(call: Call) -> Kernel:
    """Product of the centred integers, scaled by ``s_1 * s_2 / s_y`` taken in float32."""
    if not call.y.is_quantized:
        return [finish_float(call, call.array(0) * call.array(1))]
    product = call.centered(0) * call.centered(1)
    scale = np.asarray(call.x.scale * call.tensor(1).scale / call.y.scale)
    if call.xnnpack:
        return [finish(call, float_rule(product, scale))]
    return [finish(call, double_rounding(product, quantize_multiplier(scale)))]


def div(call: Call) -> Kernel:
    """A quotient of real numbers; the integer kernel is wrong near zero and is not computed."""
    if call.y.is_quantized:
        raise QCompileError(
            Code.SCHEME_UNSUPPORTED, "the integer DIV gives wrong quotients near zero"
        )
    return [finish_float(call, call.array(0) / call.array(1))]


def squared_difference(call: Call) -> Kernel:
    """``(x - y)**2``: a difference raised by 7 bits, then squared and scaled."""
    if not call.y.is_quantized:
        return [np.square(call.array(0) - call.array(1))]
    first, second, twice = _aligned(call, _SQUARE_SHIFT)
    by = quantize_multiplier(twice * twice / (4.0**_SQUARE_SHIFT * np.float64(call.y.scale)))
    return [finish(call, double_rounding(np.square(first - second), by), 0)]


def minimum(call: Call) -> Kernel:
    """The lesser of two tensors that share parameters."""
    return [np.minimum(call.array(0), call.array(1))]


def maximum(call: Call) -> Kernel:
    """The greater of two tensors that share parameters."""
    return [np.maximum(call.array(0), call.array(1))]


def power(call: Call) -> Kernel:
    """Real numbers to a power."""
    return [np.power(call.array(0), call.array(1))]


def floor_div(call: Call) -> Kernel:
    """The quotient's floor."""
    return [np.floor_divide(call.array(0), call.array(1))]


def floor_mod(call: Call) -> Kernel:
    """What FLOOR_DIV leaves, of the sign of the divisor."""
    return [np.mod(call.array(0), call.array(1))]


def _sum(call: Call, sign: int) -> Kernel:
    if not call.y.is_quantized:
        return [finish_float(call, call.array(0) + sign * call.array(1))]
    if call.xnnpack:
        return [finish(call, _xnnpack_sum(call, sign))]
    if call.y.dtype == "int16" and call.option("potScaleInt16", False):
        _refuse_powers(call)
    shift = _SHIFTS.get(call.y.dtype, 20)
    first, second, twice = _aligned(call, shift)
    by = quantize_multiplier(twice / (2.0**shift * np.float64(call.y.scale)))
    return [finish(call, double_rounding(first + sign * second, by))]


def _aligned(call: Call, shift: int) -> tuple[np.ndarray, np.ndarray, np.float64]:
    """Both operands on the scale ``2 * max(s_1, s_2) / 2**shift``, and twice that maximum."""
    scales = [np.float64(call.tensor(i).scale) for i in (0, 1)]
    twice = np.float64(2.0) * max(scales)
    moved = [
        double_rounding(call.centered(i) << shift, quantize_multiplier(scales[i] / twice))
        for i in (0, 1)
    ]
    return moved[0], moved[1], twice


def _xnnpack_sum(call: Call, sign: int) -> np.ndarray:
    """Both operands by multipliers of 21 bits on one exponent, one rounding, halves up.

    Source: XNNPACK, ``microparams-init.c``, xnn_init_qs8_add_minmax_scalar_params.
    """
    ratios = [call.tensor(i).scale / call.y.scale for i in (0, 1)]
    shift = _XNNPACK_BITS - (int(np.frexp(max(ratios))[1]) - 1)
    first, second = (
        np.int64(np.rint(np.ldexp(ratio, shift).astype(np.float32))) for ratio in ratios
    )
    total = call.centered(0) * first + call.centered(1) * second * sign
    return np.asarray((total + (np.int64(1) << (shift - 1))) >> shift)


def _refuse_powers(call: Call) -> None:
    """Sums of 16 bits on power-of-two scales take a way of their own unless told not to."""
    tensors = call.x, call.tensor(1), call.y
    if all(np.frexp(t.scale)[0] == 0.5 for t in tensors):
        raise QCompileError(
            Code.SCHEME_UNSUPPORTED,
            f"{call.op} of int16 on power-of-two scales without potScaleInt16=False",
        )
