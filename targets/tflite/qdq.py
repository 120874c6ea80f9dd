"""Questions asked of a QDQ graph: what quantizes a value, and how; what is integer."""

from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.errors import Code, QCompileError
from qcompile.core.target import Target
from qcompile.targets.tflite.builder import Quantization
from qcompile.targets.tflite.unit import Unit, stored

DYNAMIC: Final = "DynamicQuantizeLinear"

MIDDLES: Final = {"uint8": 128, "uint4": 8, "uint2": 2, "int8": 0, "int4": 0, "int2": 0}
"""Types of weights that may alone be integers -> the zero point that the kernels take for 0."""

ORIGIN_KEY: Final = "qcompile.tflite"
"""metadata_props key of a node that was read from a quantized TFLite file: its operator there.

Where the writer has a choice it takes that one: the file then computes what the original did.
"""


def quantizer(value: ir.Value) -> ir.Node | None:
    """The QuantizeLinear that alone reads a value."""
    reader = g.only_consumer(value)
    return reader if reader is not None and reader.op_type == "QuantizeLinear" else None


def is_dequantized(value: ir.Value) -> bool:
    """Whether a value comes out of a DequantizeLinear with constant parameters.

    Computed integers with several scales (rows of a table) are written as floats: they do not
    count.
    """
    producer = value.producer()
    if producer is None or producer.op_type != "DequantizeLinear":
        return False
    scale = g.constant(producer.inputs[1])
    if scale is None:
        return False
    return scale.size == 1 or g.constant(producer.inputs[0]) is not None


def dynamic_source(value: ir.Value | None) -> ir.Value | None:
    """The float value that a value is, up to a quantization whose scale the kernel chooses."""
    back = None if value is None else value.producer()
    integers = back.inputs[0] if back is not None and back.op_type == "DequantizeLinear" else None
    maker = None if integers is None else integers.producer()
    return maker.inputs[0] if maker is not None and maker.op_type == DYNAMIC else None


def is_stored(value: ir.Value | None) -> bool:
    """Whether a value is a matrix that is stored in integers, zero points in the middle.

    The form of weights that alone are integers: ``DequantizeLinear`` of a constant of 8, 4 or 2
    bits, with a scale a row or a column.
    """
    producer = None if value is None else value.producer()
    if producer is None or producer.op_type != "DequantizeLinear" or len(producer.inputs) < 2:
        return False
    array, scale = g.constant(producer.inputs[0]), g.constant(producer.inputs[1])
    if array is None or scale is None or array.ndim != 2 or scale.ndim != 1:
        return False
    params, kind = parameters(producer)
    return kind in MIDDLES and bool(np.all(params.zero_point == MIDDLES[kind]))


def signed(
    array: np.ndarray, params: Quantization, kind: str
) -> tuple[np.ndarray, Quantization, str]:
    """Integers of ``is_stored`` as those of the signed type, whose zero points are 0."""
    integers = (array.astype(np.int16) - MIDDLES[kind]).astype(np.int8)
    zero = np.zeros_like(params.zero_point)
    return integers, Quantization(params.scale, zero, params.axis), kind.removeprefix("u")


def is_integer(unit: Unit, target: Target) -> bool:
    """Whether a unit computes on integers.

    1. Every float input comes out of a DequantizeLinear, except what the target's rule calls
       ``other`` (bounds, sizes, padding values);
    2. every float output that is read has a QuantizeLinear as its only reader;
    3. a bias that an Add brings is in int32.
    """
    rule = target.rule(unit.node.op_type)
    for index, value in enumerate(unit.node.inputs):
        if value is None or not _is_float(value) or is_dequantized(value):
            continue
        if rule is None or rule.role(index) != "other":
            return False
    if unit.bias is not None and not _is_int32(unit.bias):
        return False
    outputs = (unit.end.outputs[0], *unit.node.outputs[1:])
    if not any(v is not None and is_dequantized(v) for v in unit.node.inputs):
        return False
    return all(
        quantizer(value) is not None
        for value in outputs
        if _is_float(value) and (value.uses() or value.is_graph_output())
    )


def parameters(node: ir.Node) -> tuple[Quantization, str]:
    """Parameters and integer type of a QuantizeLinear or DequantizeLinear.

    Raises:
        QCompileError: SCHEME_UNSUPPORTED when they are computed as the model runs.
    """
    scale = g.constant(node.inputs[1])
    typed = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
    zero_value = node.inputs[2] if len(node.inputs) > 2 else None
    zero = np.zeros((), np.int64) if zero_value is None else g.constant(zero_value)
    kind = zero_value.dtype if zero_value is not None else typed.dtype if typed else None
    if scale is None or zero is None or kind is None:
        raise QCompileError(
            Code.SCHEME_UNSUPPORTED,
            f"{node.op_type} cannot be written for TFLite: its parameters are computed as the "
            "model runs",
            node=node.name,
        )
    axis = None
    if scale.ndim:
        axis = g.attribute_int(node, "axis", 1)
        axis += (g.rank(node.inputs[0]) or 0) if axis < 0 else 0
    return Quantization.of(scale, zero, axis), kind.name.lower()


def static_shape(value: ir.Value, node: ir.Node | None = None) -> tuple[int, ...]:
    """The shape of a value.

    Raises:
        QCompileError: SHAPE_NOT_STATIC when a dimension is not a number.
    """
    shape = g.static_shape(value)
    if shape is None:
        raise QCompileError(
            Code.SHAPE_NOT_STATIC,
            f"the shape of {value.name} is not known",
            node=None if node is None else node.name,
            hint="fix the input's shape with --shape",
        )
    return shape


def _is_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point()


def _is_int32(value: ir.Value) -> bool:
    source = stored(value)
    return source is not value and source is not None and source.dtype == ir.DataType.INT32
