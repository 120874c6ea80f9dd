"""What an op lowering works with: the QDQ graph on one side, the growing model on the other."""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite import qdq
from qcompile.targets.tflite.builder import Quantization
from qcompile.targets.tflite.layout import Perm, identity
from qcompile.targets.tflite.operand import Operand
from qcompile.targets.tflite.unit import Unit, widens
from qcompile.targets.tflite.writer import Writer

__all__ = ["Context", "Operand"]


@dataclass
class Context(Writer):
    """One lowering. Op functions read nodes through it and add operators through it.

    The graph is in QDQ form: ``DequantizeLinear -> op -> QuantizeLinear`` is an integer op on the
    two integer values. Before each node ``enter`` decides once whether it is one. In an integer op
    ``read`` looks through the dequantizers and ``define`` through the quantizer; in any other both
    give floats, and DEQUANTIZE and QUANTIZE operators appear where the two meet. So an op function
    is written once for both.
    """

    integer: bool = False
    """Whether it is an integer op."""
    _held: dict[ir.Value, Operand] = field(default_factory=dict)
    """Value of the QDQ graph (an integer one for what is quantized) -> its tensor."""

    def enter(self, unit: Unit) -> None:
        """Turn to a node: decide whether it is an integer op."""
        self.unit = unit
        self.integer = qdq.is_integer(unit, self.target)

    # --- reading -------------------------------------------------------------------------------

    def read(self, node: ir.Node, index: int, perm: Perm | None = None) -> Operand:
        """The operand of input ``index``, stored by ``perm`` (as it lies when None).

        Integers in an integer op, floats in any other; indices and conditions as they are.
        """
        value = node.inputs[index]
        if value is None:
            raise self.refuse(node, f"its input {index} is missing")
        return self.read_value(value, perm)

    def read_value(self, value: ir.Value, perm: Perm | None = None) -> Operand:
        """As ``read``, for any value."""
        operand = self.settled(self.held(value))
        operand = operand if self.integer else self.real(operand)
        return operand if perm is None else self.stored_as(operand, perm)

    def read_merged(self, node: ir.Node, index: int) -> Operand:
        """As ``read``, but a value may come that is not laid out yet (``Operand.source``)."""
        value = node.inputs[index]
        assert value is not None
        operand = self.held(value)
        as_it_is = self.integer or not operand.is_quantized
        return operand if operand.source is not None and as_it_is else self.read(node, index)

    def read_weight(self, node: ir.Node) -> Operand:
        """Input 1; integers also where the kernel quantizes the activation as it runs.

        It does so where the graph says it, and where the weight alone is stored in integers: there
        is no other kernel of floats and integers.
        """
        value, x = node.inputs[1], node.inputs[0]
        if value is not None and qdq.dynamic_source(x) is not None:
            return self.held(value)
        floats = not self.integer and x is not None and not qdq.is_dequantized(x)
        if value is not None and floats and qdq.is_stored(value):
            return self.held_stored(value)
        return self.read(node, 1)

    def held_stored(self, value: ir.Value) -> Operand:
        """The integers behind a matrix that is stored so (``qdq.is_stored``), in a signed type."""
        producer = value.producer()
        source = None if producer is None else producer.inputs[0]
        assert producer is not None and source is not None
        if source not in self._held:
            params, kind = qdq.parameters(producer)
            array, params, kind = qdq.signed(self._array(source), params, kind)
            self._held[source] = self.constant(source.name or "", array, params, dtype=kind)
        return self._held[source]

    def has(self, node: ir.Node, index: int) -> bool:
        """Whether an optional input is there."""
        return len(node.inputs) > index and node.inputs[index] is not None

    def held(self, value: ir.Value) -> Operand:
        """The tensor of a value; that of the integers behind it when it is dequantized.

        What is quantized as the model runs is a float value: such kernels quantize it themselves.
        """
        value = qdq.dynamic_source(value) or value
        producer = value.producer()
        if producer is not None and producer.op_type == "DequantizeLinear":
            source = producer.inputs[0]
            assert source is not None
            if source not in self._held:
                array = self._array(source)
                params, kind = qdq.parameters(producer)
                self._held[source] = self.constant(source.name or "", array, params, dtype=kind)
            return self._held[source]
        if producer is not None and widens(producer):
            small = producer.inputs[0]
            assert small is not None
            if small not in self._held:
                self._held[small] = self.constant(small.name or "", self._array(small))
            return self._held[small]
        if value not in self._held:
            self._held[value] = self.constant(value.name or "constant", self._array(value))
        return self._held[value]

    def held_exactly(self, value: ir.Value) -> Operand:
        """The tensor of a value as it is, floats where a DequantizeLinear made them."""
        return self._held[value] if value in self._held else self.held(value)

    def is_held(self, value: ir.Value) -> bool:
        """Whether a computed value has its tensor already."""
        return value in self._held

    def ints(self, node: ir.Node, index: int) -> tuple[int, ...] | None:
        """A constant input that is a list of integers (a shape, axes); None when it is computed."""
        value = node.inputs[index] if len(node.inputs) > index else None
        array = g.constant(value)
        return None if array is None else tuple(int(i) for i in array.reshape(-1))

    def shape(self, node: ir.Node, index: int = 0) -> tuple[int, ...]:
        """Logical shape of an output; TFLite wants every dimension as a number."""
        return qdq.static_shape(node.outputs[index], node)

    def _array(self, value: ir.Value) -> np.ndarray:
        array = g.constant(value)
        if array is None:
            raise QCompileError(
                Code.INTERNAL, f"value {value.name} is read before anything made it"
            )
        is_narrow = value.dtype in (ir.DataType.INT4, ir.DataType.INT2)
        return array.astype(np.int8) if is_narrow else array

    # --- writing -------------------------------------------------------------------------------

    def define(
        self, node: ir.Node, perm: Perm | None = None, *, index: int = 0, dtype: str | None = None
    ) -> Operand:
        """Make the tensor for an output of ``node``: an integer one in an integer op.

        Args:
            node: whose output it is.
            perm: how it is stored; identity when None.
            index: which output.
            dtype: for an output that is neither float nor quantized (indices, booleans).
        """
        value = node.outputs[index]
        shape = self.shape(node, index)
        perm = identity(len(shape)) if perm is None else perm
        quantizer = qdq.quantizer(value) if self.integer else None
        if quantizer is None:
            kind = dtype or (value.dtype.numpy().name if value.dtype is not None else "float32")
            made = self.tensor(value.name or "", shape, kind, None, perm)
            self._held[value] = made
            return made
        params, kind = qdq.parameters(quantizer)
        integers = quantizer.outputs[0]
        name = integers.name if integers.is_graph_output() else value.name
        made = self.tensor(name or "", shape, kind, params, perm)
        self._held[integers] = made
        return made

    def output_parameters(self, node: ir.Node, index: int = 0) -> Quantization | None:
        """What ``define`` would give the output as parameters: None for floats."""
        quantizer = qdq.quantizer(node.outputs[index]) if self.integer else None
        return None if quantizer is None else qdq.parameters(quantizer)[0]

    def alias(self, node: ir.Node, operand: Operand, index: int = 0) -> None:
        """Say that an output of ``node`` is held by a tensor that exists already.

        In an integer op with other parameters than the operand's, a QUANTIZE makes up for it.
        """
        value = node.outputs[index]
        quantizer = qdq.quantizer(value) if self.integer else None
        if quantizer is None:
            self._held[value] = operand
            return
        params, kind = qdq.parameters(quantizer)
        made = operand if operand.source is not None else self.requantized(operand, params, kind)
        self._held[quantizer.outputs[0]] = made

    def hold(self, value: ir.Value, operand: Operand) -> None:
        """Say which tensor holds a value (graph inputs, quantizer outputs)."""
        self._held[value] = operand
