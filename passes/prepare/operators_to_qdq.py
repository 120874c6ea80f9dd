"""Integer operators of quantized models, written as the float operator between quantizers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import attribute_int, constant, make_initializer, only_consumer, rank
from qcompile.passes.prepare.edit import (
    Attribute,
    graph_of,
    has_input,
    insert,
    is_op,
    operand,
    replace,
    walk,
)

NAME = "OperatorsToQDQ"

_SINGLE: Final[Mapping[str, str]] = {
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
}
"""Operators of one input: (x, scale, zero point, scale of y, zero point of y)."""
_PAIRS: Final[Mapping[str, str]] = {
    "QLinearAdd": "Add",
    "QLinearMul": "Mul",
    "QLinearMatMul": "MatMul",
}
"""Operators of two: (a, scale, zero point, b, scale, zero point, scale of y, zero point of y)."""


@dataclass(frozen=True)
class OperatorsToQDQ(ir.passes.InPlacePass):
    """Write operators on integers as operators on what the integers stand for.

    With ``DQ(q) = (q - zero_point) * scale``:

    1. ``QLinearOp(x, w, ...) = Q(Op(DQ(x), DQ(w)))`` for QLinearConv and QLinearMatMul of ONNX and
       the QLinear operators, QGemm and QLinearConcat of ONNX Runtime; an int32 bias is
       dequantized by ``s_x * s_w``, as the kernel takes it.
    2. ``MatMulInteger`` and ``ConvInteger``, cast to float and multiplied by ``s_x * s_w``, become
       ``MatMul`` and ``Conv`` of ``DQ(x)`` and ``DQ(w)``; MatMulIntegerToFloat and
       DynamicQuantizeMatMul likewise.

    It keeps the function up to the rounding of sums on their way to the output's grid.
    Left alone: scales that are computed (but those of DynamicQuantizeLinear), operators whose
    channels come last, and further operators of ONNX Runtime's own.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    convert = _CONVERT.get(node.op_type)
    if convert is None or node.domain not in ("", "ai.onnx", "com.microsoft"):
        return False
    if attribute_int(node, "channels_last", 0):
        return False
    return convert(node)


def _conv(node: ir.Node) -> bool:
    scales = (constant(operand(node, 1)), constant(operand(node, 4)))
    if not _are_constant(node, (1, 2, 4, 5, 6, 7)) or scales[0] is None or scales[1] is None:
        return False
    inputs = [_real(node, 0), _real(node, 3, axis=0)]
    if has_input(node, 8):
        inputs.append(_bias(node, 8, scales[0], scales[1]))
    return _finish(node, "Conv", inputs, 6)


def _pair(node: ir.Node) -> bool:
    if not _are_constant(node, (1, 2, 4, 5, 6, 7)):
        return False
    last = max((rank(operand(node, 3)) or 2) - 1, 0)
    return _finish(node, _PAIRS[node.op_type], [_real(node, 0), _real(node, 3, axis=last)], 6)


def _single(node: ir.Node) -> bool:
    if not _are_constant(node, (1, 2, 3, 4)):
        return False
    return _finish(node, _SINGLE[node.op_type], [_real(node, 0)], 3)


def _gemm(node: ir.Node) -> bool:
    scales = (constant(operand(node, 1)), constant(operand(node, 4)))
    alpha = node.attributes.get("alpha")
    if not _are_constant(node, (1, 2, 4, 5)) or scales[0] is None or scales[1] is None:
        return False
    if alpha is not None and alpha.as_float() != 1.0:
        return False
    axis = 0 if attribute_int(node, "transB", 0) else 1
    inputs = [_real(node, 0), _real(node, 3, axis=axis)]
    if has_input(node, 6):
        inputs.append(_bias(node, 6, scales[0], scales[1]))
    if not has_input(node, 7):
        replace(node, "Gemm", inputs, NAME, attributes=_attributes(node))
        return True
    return _finish(node, "Gemm", inputs, 7)


def _concat(node: ir.Node) -> bool:
    if len(node.inputs) % 3 != 2 or not _are_constant(
        node, [i for i in range(len(node.inputs)) if i < 2 or i % 3 != 2]
    ):
        return False
    inputs = [_real(node, index) for index in range(2, len(node.inputs), 3)]
    return _finish(node, "Concat", inputs, 0)


def _integer(node: ir.Node) -> bool:
    """``Mul(Cast(MatMulInteger(x, w)), s_x * s_w)``."""
    cast = only_consumer(node.outputs[0])
    scaled = only_consumer(cast.outputs[0]) if cast is not None and is_op(cast, "Cast") else None
    if cast is None or scaled is None or not is_op(scaled, "Mul"):
        return False
    factor = next(v for v in scaled.inputs if v is not cast.outputs[0]).producer()  # type: ignore[union-attr]
    source = operand(node, 0).producer()
    if factor is None or not is_op(factor, "Mul") or not is_op(source, "DynamicQuantizeLinear"):
        return False
    assert source is not None
    weight_scale = next((v for v in factor.inputs if v is not source.outputs[1]), None)
    if source.outputs[1] not in factor.inputs or constant(weight_scale) is None:
        return False
    is_conv = node.op_type == "ConvInteger"
    zero = node.inputs[3] if has_input(node, 3) else None
    axis = 0 if is_conv else max((rank(operand(node, 1)) or 2) - 1, 0)
    given = [operand(node, 0), source.outputs[1], source.outputs[2]]
    inputs = [
        _dequantized(scaled, given, 1),
        _dequantized(scaled, [operand(node, 1), weight_scale, zero], axis),
    ]
    op = "Conv" if is_conv else "MatMul"
    replace(scaled, op, inputs, NAME, attributes=_attributes(node))
    return True


def _to_float(node: ir.Node) -> bool:
    """``MatMulIntegerToFloat(a, b, s_a, s_b, z_a, z_b, bias)``."""
    if constant(operand(node, 3)) is None:
        return False
    zeros = [node.inputs[i] if has_input(node, i) else None for i in (4, 5)]
    last = max((rank(operand(node, 1)) or 2) - 1, 0)
    inputs = [
        _dequantized(node, [operand(node, 0), operand(node, 2), zeros[0]], last),
        _dequantized(node, [operand(node, 1), operand(node, 3), zeros[1]], last),
    ]
    return _product(node, inputs, 6)


def _dynamic(node: ir.Node) -> bool:
    """``DynamicQuantizeMatMul(a, b, s_b, z_b, bias)``."""
    if constant(operand(node, 2)) is None:
        return False
    zero = node.inputs[3] if has_input(node, 3) else None
    last = max((rank(operand(node, 1)) or 2) - 1, 0)
    weight = _dequantized(node, [operand(node, 1), operand(node, 2), zero], last)
    return _product(node, [operand(node, 0), weight], 4)


def _product(node: ir.Node, inputs: Sequence[ir.Value], bias: int) -> bool:
    if not has_input(node, bias):
        replace(node, "MatMul", inputs, NAME)
        return True
    output = node.outputs[0]
    product = insert(node, "MatMul", inputs, f"{output.name}_product", NAME, like=output)
    replace(node, "Add", [product, operand(node, bias)], NAME)
    return True


_CONVERT: Final[Mapping[str, Callable[[ir.Node], bool]]] = {
    **dict.fromkeys(_SINGLE, _single),
    **dict.fromkeys(_PAIRS, _pair),
    "QLinearConv": _conv,
    "QGemm": _gemm,
    "QLinearConcat": _concat,
    "MatMulInteger": _integer,
    "ConvInteger": _integer,
    "MatMulIntegerToFloat": _to_float,
    "DynamicQuantizeMatMul": _dynamic,
}


def _are_constant(node: ir.Node, indices: Sequence[int]) -> bool:
    """Whether scales and zero points, where they are given, are constants."""
    given = (node.inputs[i] for i in indices if has_input(node, i))
    return all(constant(value) is not None for value in given)


def _real(node: ir.Node, index: int, axis: int | None = None) -> ir.Value:
    """What an operand stands for, whose scale and zero point follow it."""
    zero = node.inputs[index + 2] if has_input(node, index + 2) else None
    return _dequantized(node, [operand(node, index), operand(node, index + 1), zero], axis)


def _dequantized(
    node: ir.Node, inputs: Sequence[ir.Value | None], axis: int | None = None
) -> ir.Value:
    stored, scale = inputs[0], constant(inputs[1])
    assert stored is not None
    per_channel = axis is not None and scale is not None and scale.size > 1
    attributes: dict[str, Attribute] = {"axis": axis} if per_channel and axis is not None else {}
    like = ir.Value(shape=stored.shape, type=ir.TensorType(ir.DataType.FLOAT))
    given = list(inputs) if inputs[-1] is not None else list(inputs[:2])
    name = f"{stored.name}_dequantized"
    return insert(node, "DequantizeLinear", given, name, NAME, like=like, attributes=attributes)


def _bias(node: ir.Node, index: int, activation: np.ndarray, weight: np.ndarray) -> ir.Value:
    bias = operand(node, index)
    product = np.asarray(activation.reshape(()) * weight, np.float32)
    product = product.reshape(()) if product.size == 1 else product.reshape(-1)
    scale = make_initializer(graph_of(node), f"{bias.name}_scale", product)
    return _dequantized(node, [bias, scale, None], axis=0)


def _finish(node: ir.Node, op: str, inputs: Sequence[ir.Value], scale: int) -> bool:
    """The float operator, and the quantizer in the place of ``node``."""
    output = node.outputs[0]
    like = ir.Value(shape=output.shape, type=ir.TensorType(ir.DataType.FLOAT))
    attributes = _attributes(node)
    name = f"{output.name}_real"
    real = insert(node, op, inputs, name, NAME, like=like, attributes=attributes)
    parameters = [v for v in node.inputs[scale : scale + 2] if v is not None]
    replace(node, "QuantizeLinear", [real, *parameters], NAME)
    return True


def _attributes(node: ir.Node) -> dict[str, Attribute]:
    """Those that the float operator has too."""
    dropped = {"channels_last", "opset", "alpha"} if node.op_type != "QLinearLeakyRelu" else set()
    found: dict[str, Attribute] = {}
    for name, attribute in node.attributes.items():
        if name not in dropped:
            found[name] = attribute.value
    return found
