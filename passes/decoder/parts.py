"""Linear layers and normalizations, however an exporter writes them."""

import onnx_ir as ir

from qcompile.core.graph import attribute_float, attribute_int, constant, rank, scalar
from qcompile.passes.decoder.records import Linear, Norm
from qcompile.passes.prepare.edit import has_input, is_constant, is_op, operand


def from_op(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes a value, if it is one of these standard operators."""
    node = None if value is None else value.producer()
    return node if is_op(node, *op_types) else None


def number_and_other(node: ir.Node) -> tuple[float, ir.Value] | None:
    """The constant scalar of an Add or Mul (or the divisor of a Div) and the other operand."""
    orders = ((1, 0),) if is_op(node, "Div", "Sub", "Pow") else ((1, 0), (0, 1))
    for at, other in orders:
        number = scalar(node.inputs[at])
        if number is not None:
            return number, operand(node, other)
    return None


def linear_of(value: ir.Value) -> Linear | None:
    """The layer that makes a value: a MatMul or Gemm with a constant weight, and its bias.

    The weight may pass a Transpose that was not folded (a head tied to the embedding).
    """
    node = from_op(value, "Add")
    if node is None:
        return _product(value, None, value)
    for at, other in ((0, 1), (1, 0)):
        bias = operand(node, other)
        if is_constant(bias) and bias.shape is not None and _is_vector(bias):
            found = _product(operand(node, at), bias, value)
            if found is not None:
                return found
    return None


def _is_vector(value: ir.Value) -> bool:
    dims = list(value.shape or ())
    return bool(dims) and all(d == 1 for d in dims[:-1])


def _product(value: ir.Value, bias: ir.Value | None, output: ir.Value) -> Linear | None:
    node = from_op(value, "MatMul", "Gemm")
    if node is None:
        reshape = from_op(value, "Reshape")  # around a Gemm, which takes two axes only
        node = from_op(operand(reshape, 0), "Gemm") if reshape is not None else None
    if node is None or not _is_weight(operand(node, 1)) or (bias is not None and _has_bias(node)):
        return None
    transposed = is_op(node, "Gemm") and bool(attribute_int(node, "transB", 0))
    x = operand(node, 0)
    if is_op(node, "Gemm"):
        if attribute_int(node, "transA", 0):
            return None
        flat = from_op(x, "Reshape")
        x = operand(flat, 0) if flat is not None else x
        bias = node.inputs[2] if _has_bias(node) else bias
    return Linear(node, operand(node, 1), bias, x, output, transposed)


def _has_bias(node: ir.Node) -> bool:
    return is_op(node, "Gemm") and has_input(node, 2)


def _is_weight(value: ir.Value) -> bool:
    if rank(value) not in (2, None):
        return False
    made = from_op(value, "Transpose", "Identity")
    return is_constant(value) or (made is not None and is_constant(operand(made, 0)))


def norm_of(value: ir.Value) -> Norm | None:
    """The normalization over the last axis that makes a value."""
    for op, kind in (("LayerNormalization", "layer"), ("RMSNormalization", "rms")):
        node = from_op(value, op)
        if node is not None:
            bias = node.inputs[2] if has_input(node, 2) else None
            epsilon = attribute_float(node, "epsilon", 1e-5)
            gain = operand(node, 1)
            x = operand(node, 0)
            if kind == "layer":
                return Norm("layer", x, value, gain, bias, epsilon)
            return Norm("rms", x, value, gain, None, epsilon)
    return _rms_norm(value)


def _rms_norm(value: ir.Value) -> Norm | None:
    """``gain * (x / sqrt(mean(x^2) + eps))``, in any of its spellings, the gain on either side."""
    bare = _bare_rms_norm(value)
    if bare is not None:
        return Norm("rms", bare[0], value, None, None, bare[1])
    node = from_op(value, "Mul")
    if node is None:
        return None
    for at, other in ((0, 1), (1, 0)):
        gain = operand(node, other)
        if is_constant(gain) and gain.shape is not None and _is_vector(gain):
            bare = _bare_rms_norm(skip_casts(operand(node, at)))
            if bare is not None:
                return Norm("rms", bare[0], value, gain, None, bare[1])
    return None


def _bare_rms_norm(value: ir.Value) -> tuple[ir.Value, float] | None:
    """The (x, eps) of ``x * rsqrt(mean(x^2) + eps)``."""
    node = from_op(value, "Mul", "Div")
    if node is None:
        return None
    orders = ((0, 1), (1, 0)) if is_op(node, "Mul") else ((0, 1),)
    for at, other in orders:
        x, divisor = operand(node, at), operand(node, other)
        epsilon = _mean_square(x, divisor, inverse=is_op(node, "Mul"))
        if epsilon is not None:
            return skip_casts(x), epsilon
    return None


def _mean_square(x: ir.Value, divisor: ir.Value, *, inverse: bool) -> float | None:
    """The eps, where ``divisor`` is ``sqrt(mean(x^2) + eps)`` or its inverse."""
    squared = _root_of(divisor, inverse=inverse)
    added = from_op(squared, "Add")
    found = number_and_other(added) if added is not None else None
    if found is None:
        return None
    epsilon, mean = found
    node = from_op(mean, "ReduceMean")
    if node is None or not attribute_int(node, "keepdims", 1) or not _over_last(node):
        return None
    square = from_op(operand(node, 0), "Mul", "Pow")
    if square is None or operand(square, 0) is not x:
        return None
    is_square = operand(square, 1) is x if is_op(square, "Mul") else scalar(square.inputs[1]) == 2
    return epsilon if is_square else None


def _root_of(value: ir.Value, *, inverse: bool) -> ir.Value | None:
    if inverse:
        power = from_op(value, "Pow")
        if power is not None:
            return operand(power, 0) if scalar(power.inputs[1]) == -0.5 else None
        outer = from_op(value, "Reciprocal", "Div")
        if outer is None or (is_op(outer, "Div") and scalar(outer.inputs[0]) != 1):
            return None
        value = operand(outer, len(outer.inputs) - 1)
    root = from_op(value, "Sqrt")
    return None if root is None else operand(root, 0)


def _over_last(node: ir.Node) -> bool:
    axes = constant(node.inputs[1]) if has_input(node, 1) else None
    dims = rank(node.inputs[0])
    if axes is None or axes.size != 1:
        return False
    return int(axes.item()) == -1 or (dims is not None and int(axes.item()) == dims - 1)


def skip_casts(value: ir.Value) -> ir.Value:
    """What a value was before casts between floating types."""
    node = from_op(value, "Cast")
    while node is not None:
        source = operand(node, 0)
        if source.dtype is None or not source.dtype.is_floating_point():
            return value
        value, node = source, from_op(source, "Cast")
    return value
