"""What an op lowering works with: the QDQ graph on one side, the growing model on the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note
from qcompile.core.target import Target
from qcompile.targets.tflite import qdq
from qcompile.targets.tflite.builder import NONE, Builder, Options, Quantization, packed
from qcompile.targets.tflite.layout import Perm, apply, between, identity, is_free
from qcompile.targets.tflite.operand import UNWRITTEN, Operand
from qcompile.targets.tflite.operator_table import Table, operator_table, version_of
from qcompile.targets.tflite.unit import Unit, widens

__all__ = ["Context", "Operand"]


@dataclass
class Context:
    """One lowering. Op functions read nodes through it and add operators through it.

    The graph is in QDQ form: ``DequantizeLinear -> op -> QuantizeLinear`` is an integer op on the
    two integer values. Before each node ``enter`` decides once whether it is one. In an integer op
    ``read`` looks through the dequantizers and ``define`` through the quantizer; in any other both
    give floats, and DEQUANTIZE and QUANTIZE operators appear where the two meet. So an op function
    is written once for both.
    """

    target: Target
    builder: Builder
    notes: list[Note] = field(default_factory=list)
    table: Table = field(default_factory=operator_table)
    """Gives each operator the version to register."""
    unit: Unit = field(init=False)
    """The node that is lowered now, and the followers that its operator does as well."""
    integer: bool = False
    """Whether it is an integer op."""
    _held: dict[ir.Value, Operand] = field(default_factory=dict)
    """Value of the QDQ graph (an integer one for what is quantized) -> its tensor."""
    _moved: dict[tuple[Operand, Perm], Operand] = field(default_factory=dict)
    _floats: dict[Operand, Operand] = field(default_factory=dict)
    _reshaped: dict[int, Operand] = field(default_factory=dict)
    """Tensor that a RESHAPE made -> what it was made of."""
    _written: dict[Operand, int] = field(default_factory=dict)
    """Constant -> its tensor."""

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

    def real(self, operand: Operand, name: str | None = None) -> Operand:
        """The same value as floats: behind a DEQUANTIZE operator where it is quantized."""
        if not operand.is_quantized:
            return operand
        if operand not in self._floats:
            title = name or f"{operand.name}_float"
            if operand.data is not None:
                self._floats[operand] = self.constant(title, operand.real, perm=operand.perm)
            else:
                made = self._tensor(title, operand.shape, operand.perm, "float32", None)
                self.emit("DEQUANTIZE", [operand], [made], Options("DequantizeOptions", {}))
                self._floats[operand] = made
        return self._floats[operand]

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
            made = self._tensor(value.name or "", shape, perm, kind, None)
            self._held[value] = made
            return made
        params, kind = qdq.parameters(quantizer)
        integers = quantizer.outputs[0]
        name = integers.name if integers.is_graph_output() else value.name
        made = self._tensor(name or "", shape, perm, kind, params)
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

    def merged(self, operand: Operand, shape: Sequence[int]) -> Operand:
        """The operand's elements, in logical order, in another shape; nothing is written yet.

        A reader that can take the elements in stored order (a matrix product with a constant
        matrix) saves the TRANSPOSE; any other gets the value laid out by ``settled``.
        """
        order = identity(len(shape))
        return Operand(
            operand.index,
            tuple(shape),
            order,
            operand.dtype,
            operand.quantization,
            name=operand.name,
            source=operand,
        )

    def settled(self, operand: Operand) -> Operand:
        """The operand itself; one that is not laid out yet, laid out."""
        if operand.source is None:
            return operand
        key = (operand, operand.perm)
        if key not in self._moved:
            flat = self.stored_as(operand.source, identity(operand.source.rank))
            self._moved[key] = self.reshaped(flat, operand.shape, operand.perm)
        return self._moved[key]

    def hold(self, value: ir.Value, operand: Operand) -> None:
        """Say which tensor holds a value (graph inputs, quantizer outputs)."""
        self._held[value] = operand

    def temporary(self, like: Operand, name: str, shape: Sequence[int], perm: Perm) -> Operand:
        """A tensor inside a composed op, of the type and parameters of ``like``."""
        return self._tensor(name, tuple(shape), perm, like.dtype, like.quantization)

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quantization: Quantization | None,
        perm: Perm | None = None,
    ) -> Operand:
        """A tensor inside a composed op; stored as it is when ``perm`` is None."""
        order = identity(len(shape)) if perm is None else perm
        return self._tensor(name, tuple(shape), order, dtype, quantization)

    def constant(
        self,
        name: str,
        array: np.ndarray,
        quantization: Quantization | None = None,
        *,
        perm: Perm | None = None,
        dtype: str | None = None,
    ) -> Operand:
        """A constant; ``array`` is in logical order and laid out by the operator that takes it.

        ``quantization.axis`` counts logical axes.
        """
        perm = identity(array.ndim) if perm is None else perm
        kind = dtype or array.dtype.name
        shape = tuple(array.shape)
        return Operand(UNWRITTEN, shape, perm, kind, quantization, array, name=name)

    def emit(
        self,
        op: str,
        inputs: Sequence[Operand | None],
        outputs: Sequence[Operand],
        options: Options | None = None,
        *,
        version: int | None = None,
    ) -> None:
        """Add an operator; its version is that of the operator table for its types.

        Raises:
            QCompileError: SCHEME_UNSUPPORTED where the model's own integers are of a type that the
                operator does not take.
        """
        if version is None:
            kinds = [None if operand is None else _computed(operand.dtype) for operand in inputs]
            version = version_of(self.table, op, kinds, [o.dtype for o in outputs])
        if version is None:
            ends = [o for o in (*inputs, *outputs) if o is not None]
            if op in self.table and not any(o.is_quantized for o in ends):
                types = ", ".join(sorted({o.dtype for o in ends}))
                raise self.refuse(self.unit.node, f"TFLite has no {op} of {types}")
            version = 1
        indices = [NONE if operand is None else self.index(operand) for operand in inputs]
        self.builder.operator(op, indices, [o.index for o in outputs], options, version=version)

    def index(self, operand: Operand) -> int:
        """Number of the operand's tensor; a constant becomes one here, in its stored order."""
        assert operand.source is None
        if operand.index != UNWRITTEN:
            return operand.index
        assert operand.data is not None
        if operand not in self._written:
            q, perm = operand.quantization, operand.perm
            stored = operand.data
            if perm != identity(operand.rank):
                stored = np.ascontiguousarray(np.transpose(stored, perm))
                if q is not None and q.scale.size > 1:
                    q = q.along(perm.index(q.axis % operand.rank))
            data = packed(stored, operand.dtype)
            made = self.builder.tensor(operand.name, stored.shape, operand.dtype, q, data)
            is_small = operand.dtype != _computed(operand.dtype)
            self._written[operand] = self._widened(made) if is_small else made
        return self._written[operand]

    def _widened(self, small: int) -> int:
        """The tensor of a float16 constant as floats that kernels compute with."""
        info = self.builder.tensors[small]
        kind = _computed(info.dtype)
        made = self.builder.tensor(f"{info.name}_float", info.shape, kind)
        version = version_of(self.table, "DEQUANTIZE", [info.dtype], [kind]) or 1
        options = Options("DequantizeOptions", {})
        self.builder.operator("DEQUANTIZE", [small], [made], options, version=version)
        return made

    # --- layout and parameters -----------------------------------------------------------------

    def stored_as(self, operand: Operand, perm: Perm, why: str = "") -> Operand:
        """The same value stored in another order; a TRANSPOSE operator where that moves bytes."""
        operand = self.settled(operand)
        if operand.perm == perm:
            return operand
        key = (operand, perm)
        if key not in self._moved:
            self._moved[key] = self._in_order(operand, perm, why)
        return self._moved[key]

    def _in_order(self, operand: Operand, perm: Perm, why: str) -> Operand:
        if operand.data is not None:
            return replace(operand, perm=perm, index=UNWRITTEN)
        if is_free(operand.perm, perm, operand.shape):
            return self.reshaped(operand, operand.shape, perm)
        moved = self.temporary(operand, f"{operand.name}_transposed", operand.shape, perm)
        order = self.constant("perm", np.asarray(between(operand.perm, perm), np.int32))
        self.emit("TRANSPOSE", [operand, order], [moved], Options("TransposeOptions", {}))
        reason = why or f"{self.unit.node.op_type} {self.unit.node.name} needs it so"
        self.notes.append(Note("info", f"{operand.name} is transposed: {reason}"))
        return moved

    def reshaped(self, operand: Operand, shape: Sequence[int], perm: Perm) -> Operand:
        """The operand's *stored* elements as a value of another logical shape and order."""
        wanted = apply(perm, tuple(shape))
        if operand.stored_shape == wanted:
            return replace(operand, shape=tuple(shape), perm=perm)
        before = self._reshaped.get(operand.index)
        if before is not None and before.stored_shape == wanted:
            return replace(before, shape=tuple(shape), perm=perm, name=operand.name)
        made = self.temporary(operand, f"{operand.name}_view", shape, perm)
        self.reshape_into(operand, made)
        return made

    def reshape_into(self, operand: Operand, made: Operand) -> None:
        """Write the operand's stored elements into a tensor that exists: RESHAPE; to a scalar,
        whose shape would be an empty constant, which is none to the loader, SQUEEZE.
        """
        if made.rank == 0:
            self.emit("SQUEEZE", [operand], [made], Options("SqueezeOptions", {"squeezeDims": ()}))
            return
        sizes = np.asarray(made.stored_shape, np.int32)
        options = Options("ReshapeOptions", {"newShape": sizes})
        self.emit("RESHAPE", [operand, self.constant("shape", sizes)], [made], options)
        if operand.data is None:
            self._reshaped[made.index] = operand

    def requantized(
        self, operand: Operand, quantization: Quantization, dtype: str | None = None
    ) -> Operand:
        """The same value with other parameters: a QUANTIZE operator where they differ."""
        assert operand.quantization is not None
        kind = dtype or operand.dtype
        if operand.quantization.same_as(quantization) and kind == operand.dtype:
            return operand
        name = f"{operand.name}_requantized"
        made = self._tensor(name, operand.shape, operand.perm, kind, quantization)
        self.emit("QUANTIZE", [operand], [made], Options("QuantizeOptions", {}))
        return made

    # --- saying no -----------------------------------------------------------------------------

    def refuse(self, node: ir.Node, why: str) -> QCompileError:
        """The error for a node that cannot be written."""
        return QCompileError(
            Code.SCHEME_UNSUPPORTED,
            f"{node.op_type} cannot be written for {self.target.name}: {why}",
            node=node.name,
        )

    def _tensor(
        self, name: str, shape: tuple[int, ...], perm: Perm, dtype: str, q: Quantization | None
    ) -> Operand:
        index = self.builder.tensor(name, apply(perm, shape), dtype, q)
        return Operand(index, shape, perm, dtype, q, name=self.builder.tensors[index].name)


def _computed(dtype: str) -> str:
    """The type in which kernels get an operand: float16 is for storing alone."""
    return "float32" if dtype == "float16" else dtype


def with_shape(operand: Operand, shape: Sequence[int], perm: Perm) -> Operand:
    """The same tensor seen as a value of another logical shape, of equal stored shape."""
    return replace(operand, shape=tuple(shape), perm=perm)
