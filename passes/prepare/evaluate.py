"""What the operators that make constants and shapes compute, in numpy: one line an operator.

Shapes may be known in part: such arrays have element type object and hold None for what is not
known, so only operators that move elements (``MOVES``) are applied to them.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import attribute_int, attribute_ints
from qcompile.core.numerics.affine import quantize

Arrays = Sequence[np.ndarray | None]
Evaluator = Callable[[ir.Node, Arrays], np.ndarray | None]


def _first(arrays: Arrays) -> np.ndarray:
    array = arrays[0]
    assert array is not None
    return array


def _ints(arrays: Arrays, index: int) -> tuple[int, ...] | None:
    """An optional input as a tuple of integers."""
    array = arrays[index] if index < len(arrays) else None
    return None if array is None else tuple(int(n) for n in array.reshape(-1))


def _unary(function: Callable[[np.ndarray], np.ndarray]) -> Evaluator:
    return lambda node, arrays: function(_first(arrays))


def _binary(function: Callable[..., np.ndarray]) -> Evaluator:
    return lambda node, arrays: function(arrays[0], arrays[1])


def _div(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    a, b = arrays
    assert a is not None
    assert b is not None
    if np.issubdtype(a.dtype, np.floating):
        return np.asarray(a / b)
    if not np.all(b):
        return None
    quotient = np.abs(a) // np.abs(b)  # integers are divided towards zero
    return np.asarray(np.where((a < 0) != (b < 0), -quotient, quotient).astype(a.dtype))


def _pow(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    base, exponent = arrays
    assert base is not None
    assert exponent is not None
    if not np.issubdtype(base.dtype, np.floating):
        return None
    return np.asarray(np.power(base, exponent).astype(base.dtype))


def _cast(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    array = _first(arrays)
    target = ir.DataType(attribute_int(node, "to", 0))
    if array.dtype == object:
        return array if target == ir.DataType.INT64 else None
    if target in (ir.DataType.STRING, ir.DataType.UNDEFINED) or target.numpy().kind not in "fiub":
        return None
    if array.dtype.kind == "f" and target.numpy().kind in "iu" and not np.isfinite(array).all():
        return None
    return array.astype(target.numpy())


def _reshape(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    array, target = _first(arrays), _ints(arrays, 1)
    assert target is not None
    if not attribute_int(node, "allowzero", 0):
        target = tuple(array.shape[i] if n == 0 else n for i, n in enumerate(target))
    return array.reshape(target)


def _squeeze(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    array, axes = _first(arrays), _ints(arrays, 1)
    return np.squeeze(array) if axes is None else np.squeeze(array, axes)


def _unsqueeze(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    axes = _ints(arrays, 1)
    assert axes is not None
    return np.expand_dims(_first(arrays), axes)


def _flatten(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    array, axis = _first(arrays), attribute_int(node, "axis", 1)
    rows = int(np.prod(array.shape[: axis if axis >= 0 else axis + array.ndim]))
    return array.reshape(rows, -1)


def _transpose(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    return np.transpose(_first(arrays), attribute_ints(node, "perm") or None)


def _concat(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    present = [a for a in arrays if a is not None]
    return np.concatenate(present, attribute_int(node, "axis", 0))


def _slice(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    array = _first(arrays)
    starts, ends = _ints(arrays, 1), _ints(arrays, 2)
    assert starts is not None
    assert ends is not None
    axes = _ints(arrays, 3) or tuple(range(len(starts)))
    steps = _ints(arrays, 4) or (1,) * len(starts)
    cut = [slice(None)] * array.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = array.shape[axis]
        # Python reads a negative end as counted from the back; ONNX clamps it to before the start.
        stop = None if step < 0 and end < -size else end
        cut[axis] = slice(start, stop, step)
    return array[tuple(cut)]


def _gather(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    indices = arrays[1]
    assert indices is not None
    return np.asarray(np.take(_first(arrays), indices, axis=attribute_int(node, "axis", 0)))


def _expand(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    array, shape = _first(arrays), _ints(arrays, 1)
    assert shape is not None
    return np.broadcast_to(array, np.broadcast_shapes(array.shape, shape))


def _constant_of_shape(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    attribute = node.attributes.get("value")
    value = np.zeros(1, np.float32) if attribute is None else attribute.as_tensor().numpy()
    return np.broadcast_to(value.reshape(()), _ints(arrays, 0) or ())


def _range(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    start, limit, delta = (a for a in arrays if a is not None)
    return np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _where(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    return np.asarray(np.where(*(a for a in arrays if a is not None)))


def _dequantize(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    q, scale = arrays[0], arrays[1]
    assert q is not None
    assert scale is not None
    if attribute_int(node, "block_size", 0) or scale.dtype != np.float32:
        return None
    zero_point = arrays[2] if len(arrays) > 2 and arrays[2] is not None else np.zeros_like(scale)
    if scale.size == 1:
        scale, zero_point = scale.reshape(()), zero_point.reshape(())
    if scale.ndim:
        shape = [1] * q.ndim
        shape[attribute_int(node, "axis", 1)] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    if q.dtype.itemsize > 2:  # a bias: float32 would round its integers first
        return np.asarray((q.astype(np.float64) - zero_point) * scale, np.float32)
    return np.asarray((q.astype(np.float32) - zero_point.astype(np.float32)) * scale)


def _quantize(node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    """Integers of weights that a tool left float in front of their quantizer."""
    x, scale = arrays[0], arrays[1]
    zero_point = arrays[2] if len(arrays) > 2 else None
    dtype = None if zero_point is None else zero_point.dtype.name
    assert x is not None
    assert scale is not None
    if attribute_int(node, "block_size", 0) or scale.dtype != np.float32 or x.dtype != np.float32:
        return None
    if zero_point is None or dtype not in {"int8", "uint8", "int16", "uint16"}:
        return None
    axis = attribute_int(node, "axis", 1) if scale.size > 1 else None
    if axis is None:
        scale, zero_point = scale.reshape(()), zero_point.reshape(())
    return quantize(x, scale, zero_point, dtype, axis)


MOVES: Mapping[str, Evaluator] = {
    "Cast": _cast,
    "Concat": _concat,
    "Gather": _gather,
    "Identity": _unary(lambda a: a),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
"""Operators that move elements and compute nothing: they work on shapes known in part."""

EVALUATORS: Mapping[str, Evaluator] = {
    **MOVES,
    "Add": _binary(np.add),
    "And": _binary(np.logical_and),
    "ConstantOfShape": _constant_of_shape,
    "DequantizeLinear": _dequantize,
    "Div": _div,
    "Equal": _binary(np.equal),
    "Expand": _expand,
    "Flatten": _flatten,
    "Greater": _binary(np.greater),
    "Less": _binary(np.less),
    "Mul": _binary(np.multiply),
    "Neg": _unary(np.negative),
    "Not": _unary(np.logical_not),
    "Or": _binary(np.logical_or),
    "Pow": _pow,
    "QuantizeLinear": _quantize,
    "Range": _range,
    "Reciprocal": _unary(np.reciprocal),
    "Sqrt": _unary(np.sqrt),
    "Sub": _binary(np.subtract),
    "Transpose": _transpose,
    "Where": _where,
}
"""Operator -> its result from constant inputs; None where it cannot be told."""
