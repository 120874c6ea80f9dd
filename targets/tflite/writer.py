"""Writes operators, and their tensors where an operator wants them laid out or typed otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note
from qcompile.core.target import Target
from qcompile.targets.tflite.builder import NONE, Builder, Options, Quantization, packed
from qcompile.targets.tflite.layout import Perm, apply, between, identity, is_free
from qcompile.targets.tflite.operand import UNWRITTEN, Operand, with_shape
from qcompile.targets.tflite.operator_table import Table, operator_table, version_of
from qcompile.targets.tflite.unit import Unit


@dataclass
class Writer:
    """The growing model, in operands; the values of the graph are ``Context``'s.

    A value is written once in each order, type and shape that somebody wants: operands that were
    made are remembered.
    """

    target: Target
    builder: Builder
    notes: list[Note] = field(default_factory=list)
    table: Table = field(default_factory=operator_table)
    """Gives each operator the version to register."""
    unit: Unit = field(init=False)
    """The node that is lowered now, and the followers that its operator does as well."""
    _moved: dict[tuple[Operand, Perm], Operand] = field(default_factory=dict)
    _floats: dict[Operand, Operand] = field(default_factory=dict)
    _reshaped: dict[int, Operand] = field(default_factory=dict)
    """Tensor that a RESHAPE made -> what it was made of."""
    _written: dict[Operand, int] = field(default_factory=dict)
    """Constant -> its tensor."""

    # --- operators and tensors -----------------------------------------------------------------

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
        sizes = tuple(shape)
        index = self.builder.tensor(name, apply(order, sizes), dtype, quantization)
        told = self.builder.tensors[index].name
        return Operand(index, sizes, order, dtype, quantization, name=told)

    def temporary(self, like: Operand, name: str, shape: Sequence[int], perm: Perm) -> Operand:
        """A tensor inside a composed op, of the type and parameters of ``like``."""
        return self.tensor(name, shape, like.dtype, like.quantization, perm)

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

    # --- types, layout and parameters ----------------------------------------------------------

    def real(self, operand: Operand, name: str | None = None) -> Operand:
        """The same value as floats: behind a DEQUANTIZE operator where it is quantized."""
        if not operand.is_quantized:
            return operand
        if operand not in self._floats:
            title = name or f"{operand.name}_float"
            if operand.data is not None:
                self._floats[operand] = self.constant(title, operand.real, perm=operand.perm)
            else:
                made = self.tensor(title, operand.shape, "float32", None, operand.perm)
                self.emit("DEQUANTIZE", [operand], [made], Options("DequantizeOptions", {}))
                self._floats[operand] = made
        return self._floats[operand]

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
            return with_shape(operand, shape, perm)
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
        made = self.tensor(name, operand.shape, kind, quantization, operand.perm)
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


def _computed(dtype: str) -> str:
    """The type in which kernels get an operand: float16 is for storing alone."""
    return "float32" if dtype == "float16" else dtype
