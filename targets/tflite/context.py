"""What an op lowering works with: the QDQ graph on one side, the growing model on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note
from qcompile.core.numerics.affine import dequantize
from qcompile.core.target import Target
from qcompile.targets.tflite.builder import NONE, Builder, Options, Quantization
from qcompile.targets.tflite.layout import Perm, apply, between, identity, is_free


@dataclass(frozen=True, eq=False)
class Operand:
    """A tensor that holds a value of the graph."""

    index: int
    shape: tuple[int, ...]
    """Logical, in the order of ONNX."""
    perm: Perm
    """How the tensor stores it (``layout``)."""
    dtype: str
    quantization: Quantization | None = None
    data: np.ndarray | None = None
    """A constant's elements, in logical order: integers where it is quantized."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return apply(self.perm, self.shape)

    @property
    def is_quantized(self) -> bool:
        """Whether it holds integers that stand for real numbers."""
        return self.quantization is not None

    @property
    def real(self) -> np.ndarray:
        """A constant's real values, float32, in logical order."""
        assert self.data is not None
        if self.quantization is None:
            return self.data.astype(np.float32)
        q = self.quantization
        axis = q.axis if q.scale.size > 1 else None
        scale = q.scale if axis is not None else q.scale[0]
        zero = q.zero_point if axis is not None else q.zero_point[0]
        return dequantize(self.data, scale, zero, axis)


@dataclass
class Context:
    """One lowering. Op functions read nodes through it and add operators through it.

    The graph is in QDQ form: ``DequantizeLinear -> op -> QuantizeLinear`` is an integer op on the
    two integer values. ``read`` looks through the dequantizer, ``define`` through the quantizer;
    an op with a float on one side gets (or gives) a float tensor, and QUANTIZE or DEQUANTIZE
    operators appear where the two meet.
    """

    target: Target
    builder: Builder
    notes: list[Note] = field(default_factory=list)
    versions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Operator -> type of its first output -> version to register."""
    _held: dict[ir.Value, Operand] = field(default_factory=dict)
    """Value of the QDQ graph (an integer one for what is quantized) -> its tensor."""

    # --- reading -------------------------------------------------------------------------------

    def read(self, node: ir.Node, index: int, perm: Perm | None = None) -> Operand:
        """The operand of input ``index``, stored by ``perm`` (as it lies when None).

        Integer if the input comes from a DequantizeLinear, else as the value is.
        """
        value = node.inputs[index]
        if value is None:
            raise self.refuse(node, f"its input {index} is missing")
        operand = self.held(value)
        return operand if perm is None else self.stored_as(operand, perm)

    def has(self, node: ir.Node, index: int) -> bool:
        """Whether an optional input is there."""
        return len(node.inputs) > index and node.inputs[index] is not None

    def held(self, value: ir.Value) -> Operand:
        """The tensor of a value; that of the integers behind it when it is dequantized."""
        producer = value.producer()
        if producer is not None and producer.op_type == "DequantizeLinear":
            source = producer.inputs[0]
            assert source is not None
            if source not in self._held:
                self._held[source] = self._quantized_constant(source, producer)
            return self._held[source]
        if value not in self._held:
            array = g.constant(value)
            if array is None:
                raise QCompileError(
                    Code.INTERNAL, f"value {value.name} is read before anything made it"
                )
            self._held[value] = self.constant(value.name or "constant", array)
        return self._held[value]

    def real(self, operand: Operand) -> Operand:
        """The same value as floats: behind a DEQUANTIZE operator where it is quantized."""
        if not operand.is_quantized:
            return operand
        if operand.data is not None:
            return self.constant(self.name_of(operand), operand.real, perm=operand.perm)
        name = f"{self.name_of(operand)}_float"
        made = self._tensor(name, operand.shape, operand.perm, "float32", None)
        self.emit("DEQUANTIZE", [operand], [made])
        return made

    def ints(self, node: ir.Node, index: int) -> tuple[int, ...] | None:
        """A constant input that is a list of integers (a shape, axes); None when it is computed."""
        value = node.inputs[index] if len(node.inputs) > index else None
        array = g.constant(value)
        return None if array is None else tuple(int(i) for i in array.reshape(-1))

    def shape(self, node: ir.Node, index: int = 0) -> tuple[int, ...]:
        """Logical shape of an output; TFLite wants every dimension as a number."""
        shape = g.static_shape(node.outputs[index])
        if shape is None:
            raise QCompileError(
                Code.SHAPE_NOT_STATIC,
                f"the shape of {node.outputs[index].name} is not known",
                node=node.name,
                hint="fix the input's shape with --shape",
            )
        return shape

    # --- writing -------------------------------------------------------------------------------

    def define(
        self, node: ir.Node, perm: Perm | None = None, *, index: int = 0, dtype: str | None = None
    ) -> Operand:
        """Make the tensor for an output of ``node``: an integer one when it is quantized.

        Args:
            node: whose output it is.
            perm: how it is stored; identity when None.
            index: which output.
            dtype: for an output that is neither float nor quantized (indices, booleans).
        """
        value = node.outputs[index]
        shape = self.shape(node, index)
        perm = identity(len(shape)) if perm is None else perm
        quantizer = self.quantizer(value)
        if quantizer is None:
            kind = dtype or (value.dtype.numpy().name if value.dtype is not None else "float32")
            made = self._tensor(value.name or "", shape, perm, kind, None)
            self._held[value] = made
            return made
        params, kind = self.parameters(quantizer)
        made = self._tensor(value.name or "", shape, perm, kind, params)
        self._held[quantizer.outputs[0]] = made
        return made

    def alias(self, node: ir.Node, operand: Operand, index: int = 0) -> None:
        """Say that an output of ``node`` is held by a tensor that exists already."""
        value = node.outputs[index]
        quantizer = self.quantizer(value)
        self._held[value if quantizer is None else quantizer.outputs[0]] = operand

    def hold(self, value: ir.Value, operand: Operand) -> None:
        """Say which tensor holds a value (graph inputs, quantizer outputs)."""
        self._held[value] = operand

    def temporary(self, like: Operand, name: str, shape: Sequence[int], perm: Perm) -> Operand:
        """A tensor inside a composed op, of the type and parameters of ``like``."""
        return self._tensor(name, tuple(shape), perm, like.dtype, like.quantization)

    def tensor(
        self, name: str, shape: Sequence[int], dtype: str, quantization: Quantization | None
    ) -> Operand:
        """A tensor inside a composed op, stored as it is."""
        return self._tensor(name, tuple(shape), identity(len(shape)), dtype, quantization)

    def constant(
        self,
        name: str,
        array: np.ndarray,
        quantization: Quantization | None = None,
        *,
        perm: Perm | None = None,
        dtype: str | None = None,
    ) -> Operand:
        """A constant tensor; ``array`` is in logical order and laid out here."""
        perm = identity(array.ndim) if perm is None else perm
        stored = np.ascontiguousarray(np.transpose(array, perm)) if array.ndim else array
        kind = dtype or array.dtype.name
        index = self.builder.tensor(name, stored.shape, kind, quantization, stored)
        return Operand(index, tuple(array.shape), perm, kind, quantization, array)

    def emit(
        self,
        op: str,
        inputs: Sequence[Operand | None],
        outputs: Sequence[Operand],
        options: Options | None = None,
        *,
        version: int | None = None,
    ) -> None:
        """Add an operator; its version is that of the operator table for its types."""
        if version is None:
            kinds = self.versions.get(op, {})
            version = kinds.get(outputs[0].dtype, kinds.get("default", 1))
        indices = [NONE if operand is None else operand.index for operand in inputs]
        self.builder.operator(op, indices, [o.index for o in outputs], options, version=version)

    def stored_as(self, operand: Operand, perm: Perm) -> Operand:
        """The same value stored in another order; a TRANSPOSE operator where that moves bytes."""
        if operand.perm == perm:
            return operand
        if operand.data is not None:
            q = operand.quantization
            return self.constant(
                self.name_of(operand), operand.data, q, perm=perm, dtype=operand.dtype
            )
        if is_free(operand.perm, perm, operand.shape):
            moved = self._tensor(
                f"{self.name_of(operand)}_view",
                operand.shape,
                perm,
                operand.dtype,
                operand.quantization,
            )
            shape = np.asarray(moved.stored_shape, np.int32)
            target = self.constant("shape", shape)
            self.emit(
                "RESHAPE",
                [operand, target],
                [moved],
                Options("ReshapeOptions", {"newShape": shape}),
            )
            return moved
        moved = self._tensor(
            f"{self.name_of(operand)}_transposed",
            operand.shape,
            perm,
            operand.dtype,
            operand.quantization,
        )
        order = self.constant("perm", np.asarray(between(operand.perm, perm), np.int32))
        self.emit("TRANSPOSE", [operand, order], [moved], Options("TransposeOptions", {}))
        self.notes.append(
            Note("info", f"{self.name_of(operand)} is transposed: {operand.perm} to {perm}")
        )
        return moved

    def requantized(self, operand: Operand, quantization: Quantization) -> Operand:
        """The same value with other parameters: a QUANTIZE operator where they differ."""
        assert operand.quantization is not None
        if operand.quantization.same_as(quantization):
            return operand
        made = self._tensor(
            f"{self.name_of(operand)}_requantized",
            operand.shape,
            operand.perm,
            operand.dtype,
            quantization,
        )
        self.emit("QUANTIZE", [operand], [made], Options("QuantizeOptions", {}))
        return made

    # --- the QDQ form --------------------------------------------------------------------------

    def quantizer(self, value: ir.Value) -> ir.Node | None:
        """The QuantizeLinear that alone reads a value."""
        reader = g.only_consumer(value)
        return reader if reader is not None and reader.op_type == "QuantizeLinear" else None

    def is_integer(self, node: ir.Node) -> bool:
        """Whether a node's first output is quantized and its float inputs are dequantized ones."""
        return self.quantizer(node.outputs[0]) is not None and all(
            value is None or value.dtype != ir.DataType.FLOAT or self.held(value).is_quantized
            for value in node.inputs
        )

    def parameters(self, node: ir.Node) -> tuple[Quantization, str]:
        """Parameters and integer type of a QuantizeLinear or DequantizeLinear."""
        scale, zero = g.constant(node.inputs[1]), None
        kind = (
            node.inputs[0].dtype if node.op_type == "DequantizeLinear" and node.inputs[0] else None
        )
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            zero, kind = g.constant(node.inputs[2]), node.inputs[2].dtype
        if scale is None or kind is None:
            raise self.refuse(node, "its parameters are computed as the model runs")
        axis = g.attribute_int(node, "axis", 1) if scale.ndim else None
        zeros = np.zeros(()) if zero is None else zero
        return Quantization.of(scale, zeros, axis), kind.name.lower()

    def _quantized_constant(self, value: ir.Value, dequantizer: ir.Node) -> Operand:
        array = g.constant(value)
        if array is None:
            raise QCompileError(
                Code.INTERNAL, f"value {value.name} is read before anything made it"
            )
        params, kind = self.parameters(dequantizer)
        return self.constant(value.name or "constant", array, params, dtype=kind)

    # --- saying no -----------------------------------------------------------------------------

    def refuse(self, node: ir.Node, why: str) -> QCompileError:
        """The error for a node that cannot be written."""
        return QCompileError(
            Code.SCHEME_UNSUPPORTED,
            f"{node.op_type} cannot be written for {self.target.name}: {why}",
            node=node.name,
        )

    def name_of(self, operand: Operand) -> str:
        """Name of the operand's tensor."""
        return self.builder.tensors[operand.index].name

    def _tensor(
        self, name: str, shape: tuple[int, ...], perm: Perm, dtype: str, q: Quantization | None
    ) -> Operand:
        index = self.builder.tensor(name, apply(perm, shape), dtype, q)
        return Operand(index, shape, perm, dtype, q)


def with_shape(operand: Operand, shape: Sequence[int], perm: Perm) -> Operand:
    """The same tensor seen as a value of another logical shape."""
    return replace(operand, shape=tuple(shape), perm=perm)
