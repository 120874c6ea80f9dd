"""QDQ models around one op, as the planner would write them: for the operator table."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from qcompile.core.target import OpRule
from qcompile.targets.catalog import load_target
from tests.targets.onnxruntime.qdq_models import ACTIVATION_SCALE, Builder

TARGET = load_target("ort-x86-avx2")
PICTURE = (1, 4, 6, 6)
Build = Callable[[], onnx.ModelProto]


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def parameters(rule: OpRule | None, same: bool | None) -> tuple[float, int]:
    """Scale and zero point of the output: what the rule asks for, or others."""
    if rule is not None and rule.fixed_output is not None:
        return rule.fixed_output.scale, rule.fixed_output.zero_point
    if same if same is not None else (rule is not None and rule.same_parameters):
        return ACTIVATION_SCALE, 10
    return 0.2, 20


def unary(
    op: str,
    shape: tuple[int | str, ...] = PICTURE,
    *constants: Any,
    outputs: int = 1,
    same: bool | None = None,
    opset: int = 21,
    **attributes: Any,
) -> Build:
    """``op`` on one activation and constants (None leaves an optional input out)."""

    def build() -> onnx.ModelProto:
        b = Builder()
        others = ["" if c is None else b.constant(c) for c in constants]
        for value in b.node(op, [b.activation(shape), *others], outputs, **attributes):
            b.output(b.quantized(value, *parameters(TARGET.rule(op), same)))
        return b.model(opset)

    return build


def binary(
    op: str,
    left: tuple[int | str, ...] = PICTURE,
    right: tuple[int, ...] = PICTURE,
    constant: str | None = None,
    then: str | None = None,
    zero: int = 0,
    swap: bool = False,
    **attributes: Any,
) -> Build:
    """``op`` on two activations, or one and a constant of some type."""

    def build() -> onnx.ModelProto:
        b = Builder()
        inputs = [b.activation(left)]
        if constant is None:
            inputs.append(b.activation(right, 0.2, 20))
        elif constant == "float32":
            inputs.append(b.constant(np.ones(right, np.float32)))
        else:
            inputs.append(b.stored(np.ones(right, constant), 0.02, 0))
        value = b.node(op, inputs[::-1] if swap else inputs, **attributes)[0]
        if then is not None:
            value = b.node(then, [value])[0]
        b.output(b.quantized(value, 0.2, zero))
        return b.model()

    return build


def weighted(
    op: str,
    shape: tuple[int | str, ...],
    weight: tuple[int, ...],
    axis: int | None,
    bias: str | None = "int32",
    dtype: str = "int8",
    then: tuple[Any, ...] | None = None,
    zero: int = 0,
    scale: float = 0.2,
    quantized: bool = True,
    opset: int = 21,
    **attributes: Any,
) -> Build:
    """A multiply-add with a stored weight, an optional bias and an activation behind it.

    The bias of a MatMul is an Add; ``then`` is an op and its constant inputs.
    """

    def build() -> onnx.ModelProto:
        b = Builder()
        inputs = [b.activation(shape), b.weight(weight, axis, dtype)]
        out = weight[0] if op == "Conv" or attributes.get("transB") else weight[-1]
        term = None
        if bias is not None:
            zeros = np.zeros(out, np.float32)
            term = b.constant(zeros) if bias == "float32" else b.bias(out, axis is not None)
        if term is not None and op != "MatMul":
            inputs.append(term)
        value = b.node(op, inputs, **attributes)[0]
        if term is not None and op == "MatMul":
            value = b.node("Add", [value, term])[0]
        if then is not None:
            value = b.node(then[0], [value, *(b.constant(np.float32(c)) for c in then[1:])])[0]
        b.output(b.quantized(value, scale, zero) if quantized else value)
        return b.model(opset)

    return build


def concat(count: int, axis: int, constant: bool = False, then: str | None = None) -> Build:
    def build() -> onnx.ModelProto:
        b = Builder()
        values = [b.activation(PICTURE, 0.1 * (i + 1), i) for i in range(count)]
        if constant:
            values.append(b.stored(np.ones(PICTURE, np.uint8), 0.3, 3))
        value = b.node("Concat", values, axis=axis)[0]
        if then is not None:
            value = b.node(then, [value])[0]
        b.output(b.quantized(value, 0.2, 0))
        return b.model()

    return build


def where(left: str, right: str) -> Build:
    """Each branch ``computed`` or ``constant``."""

    def build() -> onnx.ModelProto:
        b = Builder()
        condition = b.input(PICTURE, TensorProto.BOOL)
        branches = [
            b.activation(PICTURE) if kind == "computed" else b.stored(np.uint8(7), 0.1, 3)
            for kind in (left, right)
        ]
        b.output(b.quantized(b.node("Where", [condition, *branches])[0], 0.2, 5))
        return b.model()

    return build


def arg_max() -> onnx.ModelProto:
    b = Builder()
    b.output(b.node("ArgMax", [b.activation(PICTURE)], axis=1)[0], TensorProto.INT64)
    return b.model()


def with_indices(op: str, *constants: Any, **attributes: Any) -> Build:
    """An op whose second output (indices) is read too."""

    def build() -> onnx.ModelProto:
        b = Builder()
        inputs = [b.activation(PICTURE), *map(b.constant, constants)]
        values, indices = b.node(op, inputs, 2, **attributes)
        b.output(b.quantized(values))
        b.output(indices, TensorProto.INT64)
        return b.model()

    return build


def split_read_once() -> onnx.ModelProto:
    b = Builder()
    first, _ = b.node("Split", [b.activation(PICTURE), b.constant(ints(2, 2))], 2, axis=1)
    b.output(b.quantized(first))
    return b.model()


def table_gather() -> onnx.ModelProto:
    b = Builder()
    table = b.stored(np.ones((10, 8), np.uint8), ACTIVATION_SCALE, 10)
    b.output(b.quantized(b.node("Gather", [table, b.input([2], TensorProto.INT64)])[0]))
    return b.model()


def dynamic(op: str, shape: tuple[int, ...], axis: int | None, bias: bool = False) -> Build:
    def build() -> onnx.ModelProto:
        b = Builder()
        quantized = b.node("DynamicQuantizeLinear", [b.input(shape)], 3)
        inputs = [b.node("DequantizeLinear", quantized)[0], b.weight((8, 16), axis)]
        term = [b.constant(np.zeros(16, np.float32))] if bias else []
        b.output(b.node(op, inputs + term)[0])
        return b.model()

    return build
