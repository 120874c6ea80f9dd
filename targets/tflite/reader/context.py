"""What an op of the reader works with: the TFLite graph on one side, the growing ONNX one beside.

It is the mirror of the writer's context. A tensor of TFLite has axes in TFLite's order; the ONNX
value that stands for it has the same axes in an order of its own: ``onnx.shape[i] ==
tflite.shape[perm[i]]``. Each op asks for its operands in the order it needs and says in which order
it gives its results, so the layout is decided once, as the graph is walked, and a Transpose stands
only where two wishes meet: behind a picture that the caller gives channels last, say.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.builder import Quantization
from qcompile.targets.tflite.layout import Perm, apply, between, identity, is_free
from qcompile.targets.tflite.qdq import ORIGIN_KEY
from qcompile.targets.tflite.reader.check import LARGEST, label
from qcompile.targets.tflite.reader.quantizing import Quantizer, is_quantized
from qcompile.targets.tflite.reading import Graph, Operator, Tensor

_ACTIVATIONS: Final = {0: "", 1: "Relu", 2: "relu_n1_to_1", 3: "relu6", 4: "Tanh"}
"""The schema's ActivationFunctionType; 5, SIGN_BIT, has no kernel."""
_SMALL: Final = 4096
"""Bytes under which a look for an equal constant pays."""
_BOUNDS: Final = {"relu_n1_to_1": (-1.0, 1.0), "relu6": (0.0, 6.0), "relu_0_to_1": (0.0, 1.0)}


@dataclass(frozen=True)
class Held:
    """The ONNX value of a tensor, and the order of its axes."""

    value: ir.Value
    perm: Perm


@dataclass
class Context:
    """One graph being read. Op functions read operands through it and add nodes through it.

    A quantized tensor is a float value behind QuantizeLinear and DequantizeLinear with the
    parameters of the file, so an op function is written once for floats and integers.
    """

    source: Graph
    open_batch: bool
    """Whether the first dimension of the inputs that say so stays open."""
    nodes: list[ir.Node] = field(default_factory=list)
    initializers: list[ir.Value] = field(default_factory=list)
    tensors: list[Tensor] = field(init=False)
    """Those of the file, with shapes as they follow from the operators, and with what could be
    computed already as constants."""
    resized: bool = False
    """Whether an input has another shape than in the file, so that the others' do not count."""
    dynamic: set[int] = field(default_factory=set)
    """Tensors whose first dimension is the open batch (1 in the file)."""
    hybrid: int = 0
    """Operators that quantize their float operand as they run, for the sake of integer weights."""
    counted: set[int] = field(default_factory=set)
    """Constants that were worked out from the open batch as if it were 1."""
    _held: dict[int, dict[Perm, ir.Value]] = field(default_factory=dict)
    """Computed tensor -> its real value in each order; the first is the order it was made in."""
    _stored: dict[int, Held] = field(default_factory=dict)
    """Quantized tensor -> its integers."""
    _constants: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _operator: Operator | None = None
    _named: bool = False

    def __post_init__(self) -> None:
        self.tensors = list(self.source.tensors)
        self.quantizer = Quantizer(self)

    # --- what the file says --------------------------------------------------------------------

    def enter(self, op: Operator | None) -> None:
        """Turn to an operator, or to an end of the graph: nodes that are added now are its."""
        self._operator, self._named = op, op is None

    @property
    def node(self) -> str:
        """What the operator is called."""
        return "" if self._operator is None else label(self.source, self._operator)

    def correct(self, index: int, shape: Sequence[int]) -> None:
        """Give a tensor the shape that it will have."""
        if min(shape, default=0) < 0 or math.prod(shape) >= LARGEST:
            raise self.invalid(f"{self.tensors[index].name} would have the shape {tuple(shape)}")
        self.tensors[index] = replace(self.tensors[index], shape=tuple(shape))

    def has(self, op: Operator, index: int) -> bool:
        """Whether an optional operand is there."""
        return index < len(op.inputs) and op.inputs[index] >= 0

    def operand(self, op: Operator, index: int) -> Tensor:
        """An operand that must be there."""
        if not self.has(op, index):
            raise self.invalid(f"{op.name} lacks its input {index}")
        return self.tensors[op.inputs[index]]

    def result(self, op: Operator, index: int = 0) -> Tensor:
        """An output that must be there."""
        if index >= len(op.outputs):
            raise self.invalid(f"{op.name} lacks its output {index}")
        return self.tensors[op.outputs[index]]

    def ints(self, op: Operator, index: int) -> tuple[int, ...]:
        """An operand that is a constant list of integers."""
        tensor = self.operand(op, index)
        if not tensor.is_constant:
            raise self.refuse(f"input {index} of {op.name} is computed as the model runs")
        if "int" not in tensor.dtype:
            raise self.invalid(f"input {index} of {op.name} is {tensor.dtype}, not integers")
        return tuple(int(v) for v in tensor.array.reshape(-1))

    def axis(self, axis: int, rank: int) -> int:
        """An axis, counted from the front."""
        if not -rank <= axis < rank:
            raise self.invalid(f"{axis} is no axis of {rank}")
        return axis % rank

    def choice(self, op: Operator, name: str, known: Mapping[int, Any]) -> Any:
        """A field of the options that is an enumeration, in our words."""
        number = int(op.options.get(name, 0))
        if number not in known:
            raise self.invalid(f"{op.name} has {name} {number}")
        return known[number]

    def invalid(self, what: str) -> QCompileError:
        """The error of a damaged file, to be raised."""
        return QCompileError(
            Code.MODEL_INVALID, f"the TFLite model is not valid: {what}", node=self.node
        )

    def refuse(self, what: str) -> QCompileError:
        """The error of what has no form in ONNX, to be raised."""
        return QCompileError(Code.IMPORT_FAILED, f"TFLite import: {what}", node=self.node)

    # --- reading -------------------------------------------------------------------------------

    def read(self, op: Operator, index: int, perm: Perm | None = None) -> Held:
        """An operand, its axes in order ``perm`` (as it lies when None).

        Floats where the tensor is quantized; indices and conditions as they are.
        """
        self.operand(op, index)
        return self.real(op.inputs[index], perm)

    def real(self, index: int, perm: Perm | None = None) -> Held:
        """As ``read``, for any tensor."""
        tensor = self.tensors[index]
        if tensor.is_constant:
            perm = identity(len(tensor.shape)) if perm is None else perm
            return Held(self.constant_of(tensor, perm), perm)
        if index not in self._held:
            raise self.refuse(f"{tensor.name} keeps a state from one run to the next")
        forms = self._held[index]
        have, value = next(iter(forms.items()))
        if perm is None or perm == have:
            return Held(value, have)
        if perm not in forms:
            made = self.add("Transpose", [value], {"perm": between(have, perm)})
            forms[perm] = self.quantizer.moved(tensor, made)
        return Held(forms[perm], perm)

    def raw(self, op: Operator, index: int) -> Held:
        """An operand's elements as they are stored: integers where it is quantized."""
        tensor = self.operand(op, index)
        if tensor.is_constant:
            plain = replace(tensor, quantization=None)
            return Held(
                self.constant_of(plain, identity(len(tensor.shape))), identity(len(tensor.shape))
            )
        stored = self._stored.get(op.inputs[index])
        return self.real(op.inputs[index]) if stored is None else stored

    def spread(self, op: Operator, index: int, rank: int, perm: Perm) -> ir.Value:
        """An operand of any rank for a result of ``rank`` axes in order ``perm``.

        It is lined up from the last axis, as both runtimes do.
        """
        tensor = self.operand(op, index)
        lead = rank - len(tensor.shape)
        if lead < 0:
            raise self.invalid(f"input {index} of {op.name} has more axes than its output")
        shape = (1,) * lead + tensor.shape
        if lead == 0:
            return self.real(op.inputs[index], perm).value
        if tensor.is_constant:
            return self.constant_of(reshaped(tensor, shape), perm)
        flat = self.real(op.inputs[index], identity(len(tensor.shape))).value
        if perm == identity(rank):
            return flat
        if is_free(identity(rank), perm, shape):
            made = self.add("Reshape", [flat, self.int64("shape", apply(perm, shape))])
            return self.quantizer.moved(tensor, made)
        made = self.add("Reshape", [flat, self.int64("shape", shape)])
        made = self.add("Transpose", [self.quantizer.moved(tensor, made)], {"perm": perm})
        return self.quantizer.moved(tensor, made)

    def constant_of(self, tensor: Tensor, perm: Perm) -> ir.Value:
        """A constant with its axes in order ``perm``, behind DequantizeLinear when quantized."""
        key = (tensor.index, tensor.shape, perm, tensor.quantization is None)
        if key not in self._constants:
            self._constants[key] = self.quantizer.constant(tensor, perm)
        return self._constants[key]

    # --- writing -------------------------------------------------------------------------------

    def add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
    ) -> ir.Value:
        """Add a node of one output."""
        return self.add_many(op_type, inputs, attributes, 1)[0]

    def add_many(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None,
        outputs: int,
    ) -> list[ir.Value]:
        """Add a node. The first of an operator has its name, those after it a kind behind that."""
        given = {k: v for k, v in (attributes or {}).items() if v is not None}
        node = ir.node(op_type, inputs, given, num_outputs=outputs)
        name = self.node if not self._named else f"{self.node or 'end'}/{op_type}"
        node.name = self.unique(name)
        self._named = True
        op = self._operator
        if op is not None and is_quantized(self.result(op)):
            node.metadata_props[ORIGIN_KEY] = op.name
        for number, value in enumerate(node.outputs):
            value.name = self.unique(f"{node.name}/{number}" if number else f"{node.name}/value")
        self.nodes.append(node)
        return list(node.outputs)

    def give(self, op: Operator, value: ir.Value, perm: Perm, index: int = 0) -> None:
        """Let ``value`` be an output, its axes in order ``perm``; it is quantized as it says."""
        tensor = self.result(op, index)
        self._rename(value, tensor)
        if is_quantized(tensor):
            stored, value = self.quantizer.pair(tensor, value)
            self._stored[tensor.index] = Held(stored, perm)
        self._held[op.outputs[index]] = {perm: value}

    def give_stored(self, op: Operator, value: ir.Value, perm: Perm) -> None:
        """As ``give``, for integers that are the tensor's own."""
        tensor = self.result(op)
        self._rename(value, tensor)
        self.hold_stored(tensor.index, value, perm)

    def hold_stored(self, index: int, value: ir.Value, perm: Perm) -> None:
        """Let ``value`` be the elements of a tensor as they are stored."""
        tensor = self.tensors[index]
        if is_quantized(tensor):
            self._stored[index] = Held(value, perm)
            value = self.quantizer.dequantized(tensor, value)
        self._held[index] = {perm: value}

    def alias(self, op: Operator, perm: Perm) -> None:
        """Let the output be input 0 with its axes counted in another order; nothing is written."""
        source, target = op.inputs[0], op.outputs[0]
        before, after = self.tensors[source].quantization, self.tensors[target].quantization
        value = self.real(source).value
        if is_quantized(self.tensors[target]) and not _same(before, after):
            self.give(op, value, perm)
            return
        self._held[target] = {perm: value}
        if source in self._stored:
            self._stored[target] = Held(self._stored[source].value, perm)

    def stored_end(self, index: int) -> ir.Value:
        """The value of an output of the graph: integers where it is quantized, TFLite's order."""
        tensor = self.tensors[index]
        order = identity(len(tensor.shape))
        if not is_quantized(tensor) or tensor.is_constant:
            return self.real(index, order).value
        stored = self._stored[index]
        if stored.perm == order:
            return stored.value
        real = self.real(index, order).value.producer()
        assert real is not None and real.inputs[0] is not None
        return real.inputs[0]

    def int64(self, name: str, values: Sequence[int]) -> ir.Value:
        """A list of integers as ONNX wants shapes and axes; equal ones are shared."""
        return self.array(name, np.asarray(values, np.int64))

    def array(
        self,
        name: str,
        array: np.ndarray,
        kind: ir.DataType | None = None,
        *,
        shared: bool = True,
    ) -> ir.Value:
        """An initializer; equal small ones are ``shared``."""
        kind = ir.DataType.from_numpy(array.dtype) if kind is None else kind
        is_small = array.nbytes < _SMALL
        key = (array.tobytes(), kind, array.shape) if shared and is_small else None
        if key is not None and key in self._constants:
            return self._constants[key]
        stored = np.asarray(array, order="C").astype(kind.numpy(), copy=False)
        value = ir.Value(
            name=self.unique(name),
            const_value=ir.Tensor(stored, dtype=kind),
            shape=ir.Shape(array.shape),
            type=ir.TensorType(kind),
        )
        self.initializers.append(value)
        if key is not None:
            self._constants[key] = value
        return value

    def unique(self, wanted: str) -> str:
        """A name that no node or value has yet."""
        wanted = wanted.replace("\n", " ")
        name, number = wanted, 0
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name

    def activated(self, op: Operator, value: ir.Value) -> ir.Value:
        """A result behind the activation that the operator does as well."""
        name = self.choice(op, "fusedActivationFunction", _ACTIVATIONS)
        return self.clamped(name, value)

    def clamped(self, name: str, value: ir.Value) -> ir.Value:
        """A value behind an activation by name; itself where there is none."""
        if name in ("", "Relu", "Tanh"):
            return self.add(name, [value]) if name else value
        low, high = _BOUNDS[name]
        bounds = [self.array("bound", np.asarray(b, np.float32)) for b in (low, high)]
        return self.add("Clip", [value, *bounds])

    def _rename(self, value: ir.Value, tensor: Tensor) -> None:
        """Give a value that was just made the name of its tensor."""
        producer = value.producer()
        if producer is not None and producer.name and value.name == f"{producer.name}/value":
            value.name = self.unique(tensor.name or f"tensor_{tensor.index}")


def reshaped(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """A constant with more or fewer axes of size 1 in front; its scales stay where they are."""
    q = tensor.quantization
    if q is not None and q.scale.size > 1:
        q = q.along(q.axis + len(shape) - len(tensor.shape))
    return replace(tensor, shape=tuple(shape), quantization=q)


def _same(a: Quantization | None, b: Quantization | None) -> bool:
    return a is b or (a is not None and a.same_as(b))
