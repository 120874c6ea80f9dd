"""Parameters of the file as QuantizeLinear and DequantizeLinear, the same to the last bit."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx_ir as ir

from qcompile.targets.tflite.layout import Perm
from qcompile.targets.tflite.reading import Tensor

if TYPE_CHECKING:
    from qcompile.targets.tflite.reader.context import Context

TYPES: Final[Mapping[str, ir.DataType]] = {
    "bool": ir.DataType.BOOL,
    "float16": ir.DataType.FLOAT16,
    "float32": ir.DataType.FLOAT,
    "float64": ir.DataType.DOUBLE,
    "int2": ir.DataType.INT4,
    "int4": ir.DataType.INT4,
    "int8": ir.DataType.INT8,
    "int16": ir.DataType.INT16,
    "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64,
    "uint8": ir.DataType.UINT8,
    "uint16": ir.DataType.UINT16,
    "uint32": ir.DataType.UINT32,
    "uint64": ir.DataType.UINT64,
}
"""Element type of TFLite -> of ONNX. 2-bit integers are widened: opset 21 has none."""

ACTIVATIONS: Final = frozenset({"int8", "uint8", "int16"})
"""Types of computed tensors that stand for real numbers."""
CONSTANTS: Final = frozenset({"int2", "int4", "int8", "uint8", "int16", "int32", "int64"})
"""Those of constants; the last two are of biases."""


def is_quantized(tensor: Tensor) -> bool:
    """Whether a tensor's integers stand for real numbers."""
    if tensor.quantization is None:
        return False
    return tensor.dtype in (CONSTANTS if tensor.is_constant else ACTIVATIONS)


class Quantizer:
    """Adds quantizers to the graph that a ``Context`` builds."""

    def __init__(self, ctx: "Context") -> None:
        self.ctx = ctx

    def pair(self, tensor: Tensor, value: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The integers of a computed value, and what they stand for."""
        parameters = self._parameters(tensor)
        stored = self.ctx.add("QuantizeLinear", [value, *parameters])
        stored.name = self.ctx.unique(f"{_stem(tensor)}_quantized")
        return stored, self._dequantize(tensor, stored, parameters)

    def dequantized(self, tensor: Tensor, stored: ir.Value) -> ir.Value:
        """What integers stand for."""
        return self._dequantize(tensor, stored, self._parameters(tensor))

    def moved(self, tensor: Tensor, value: ir.Value) -> ir.Value:
        """A value of a tensor whose elements were moved: on the same integers, where it has any."""
        return self.pair(tensor, value)[1] if is_quantized(tensor) else value

    def constant(self, tensor: Tensor, perm: Perm) -> ir.Value:
        """A constant with its axes in order ``perm``."""
        kind = TYPES[tensor.dtype]
        array = tensor.array.reshape(tensor.shape).transpose(perm)
        name = _stem(tensor)
        if not is_quantized(tensor):
            if tensor.dtype == "float16":
                array, kind = array.astype(np.float32), ir.DataType.FLOAT
            return self.ctx.array(name, array, kind)
        q = tensor.quantization
        assert q is not None
        if tensor.dtype == "int64":
            if array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
                return self._wide_bias(tensor, array)
            array, kind = array.astype(np.int32), ir.DataType.INT32
        # Of its own: equal integers of two tensors may stand for other numbers.
        stored = self.ctx.array(f"{name}_quantized", array, kind, shared=False)
        zeros = q.zero_point if q.zero_point.size else np.zeros(1, np.int64)
        parameters = [self.ctx.array(f"{name}_scale", _shaped(q.scale))]
        if kind != ir.DataType.INT32:
            full = np.broadcast_to(zeros, q.scale.shape)
            parameters.append(self.ctx.array(f"{name}_zero_point", _shaped(full), kind))
        axis = perm.index(q.axis) if q.scale.size > 1 else None
        return self._dequantize(tensor, stored, parameters, axis)

    def _wide_bias(self, tensor: Tensor, array: np.ndarray) -> ir.Value:
        """Integers that int32 does not hold, beside int16 activations: floats."""
        q = tensor.quantization
        assert q is not None
        real = (array.astype(np.float64) * q.scale.astype(np.float64)).astype(np.float32)
        return self.ctx.array(_stem(tensor), real)

    def _dequantize(
        self,
        tensor: Tensor,
        stored: ir.Value,
        parameters: list[ir.Value],
        axis: int | None = None,
    ) -> ir.Value:
        value = self.ctx.add("DequantizeLinear", [stored, *parameters], {"axis": axis})
        value.name = self.ctx.unique(f"{_stem(tensor)}_dequantized")
        return value

    def _parameters(self, tensor: Tensor) -> list[ir.Value]:
        q = tensor.quantization
        assert q is not None
        if q.scale.size != 1:
            raise self.ctx.refuse(f"{tensor.name} is computed and has several scales")
        if not q.scale[0] > 0:
            raise self.ctx.invalid(f"{tensor.name} is computed and has the scale 0")
        zero = q.zero_point if q.zero_point.size else np.zeros(1, np.int64)
        return [
            self.ctx.array(f"{_stem(tensor)}_scale", _shaped(q.scale)),
            self.ctx.array(f"{_stem(tensor)}_zero_point", _shaped(zero), TYPES[tensor.dtype]),
        ]


def _shaped(parameter: np.ndarray) -> np.ndarray:
    """A scalar for a tensor, a vector for channels."""
    return parameter.reshape(()) if parameter.size == 1 else parameter


def _stem(tensor: Tensor) -> str:
    return tensor.name or f"tensor_{tensor.index}"
