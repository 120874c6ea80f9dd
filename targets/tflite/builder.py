"""Assembles a TFLite flatbuffer: tensors, buffers, operators, signature."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import flatbuffers
import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.schema import builtin_code, schema, tensor_type

NONE = -1
"""Index of an optional input that is left out."""

LARGEST = 2**31 - 2**24
"""Bytes of constants up to which a flatbuffer, whose offsets have 31 bits, can be written."""

_IDENTIFIER = b"TFL3"
_VERSION = 3
_ALIGNMENT = 16
_LEGACY_CODES = 127
"""Operator numbers above it do not fit in the field that old runtimes read."""


@dataclass(frozen=True, eq=False)
class Quantization:
    """Scales and zero points of a tensor; vectors along ``axis``, or of one element."""

    scale: np.ndarray
    """float32 (n,)."""
    zero_point: np.ndarray
    """int64 (n,)."""
    axis: int = 0

    @classmethod
    def of(
        cls,
        scale: np.ndarray | np.floating,
        zero_point: np.ndarray | np.floating,
        axis: int | None = None,
    ) -> "Quantization":
        """From scalars or vectors of any shape."""
        flat = np.asarray(scale, np.float32).reshape(-1)
        zeros = np.broadcast_to(np.asarray(zero_point, np.int64).reshape(-1), flat.shape)
        return cls(flat, zeros.copy(), axis or 0)

    def along(self, axis: int) -> "Quantization":
        """The same parameters along another axis."""
        return replace(self, axis=axis)

    def same_as(self, other: "Quantization | None") -> bool:
        """Equal to the last bit."""
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


@dataclass(frozen=True)
class Options:
    """Builtin options of an operator: the schema's table name, as ``Conv2DOptions``, and fields."""

    table: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class TensorInfo:
    """What was said of a tensor when it was made."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None
    data: np.ndarray | None
    signature: tuple[int, ...] | None = None


@dataclass(frozen=True)
class OperatorInfo:
    """An operator as it was added."""

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options | None
    version: int


def packed(integers: np.ndarray, dtype: str) -> np.ndarray:
    """Elements as a tensor of a type stores them: 4 and 2-bit integers several a byte, the first
    in the lowest bits, the last byte filled with zeros; all others as they are.
    """
    bits = {"int4": 4, "int2": 2}.get(dtype)
    if bits is None:
        return integers
    count = 8 // bits
    fields = integers.reshape(-1).astype(np.uint8) & np.uint8((1 << bits) - 1)
    fields = np.pad(fields, (0, -fields.size % count)).reshape(-1, count)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.asarray(np.bitwise_or.reduce(fields << shifts, axis=1))


class Builder:
    """Collects a model of one subgraph and packs it.

    Operators that nothing reads, and tensors that no operator uses, do not reach the file. Equal
    constants share a buffer. Equal small vectors (shapes, scales, zero points) are written once: in
    a model of many per-channel layers they are a percent of the file.

    Args:
        computed: names that constants leave to the tensors that are computed (a model may well call
            a value ``size``, as an operator's constant is called).
    """

    def __init__(self, computed: Collection[str] = ()) -> None:
        self._computed = frozenset(computed)
        self.tensors: list[TensorInfo] = []
        self.operators: list[OperatorInfo] = []
        self._names: set[str] = set()
        self._metadata: dict[str, bytes] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quantization: Quantization | None = None,
        data: np.ndarray | None = None,
        *,
        signature: Sequence[int] | None = None,
    ) -> int:
        """Add a tensor and return its index.

        Args:
            name: as the app sees it; a number is added where it is taken.
            shape: every dimension a number.
            dtype: numpy's name of the element type; 4 and 2-bit types by TFLite's (``int4``),
                their data then being packed bytes.
            quantization: of an integer tensor.
            data: elements of a constant, in ``shape``.
            signature: shape with -1 where a dimension is open.
        """
        opened = None if signature is None else tuple(signature)
        own = self._unused(name, () if data is None else self._computed)
        info = TensorInfo(own, tuple(shape), dtype, quantization, data, opened)
        self.tensors.append(info)
        return len(self.tensors) - 1

    def rename(self, index: int, name: str) -> None:
        """Give a tensor the name of the end that it is."""
        if self.tensors[index].name == name:
            return
        taken = next((i for i, t in enumerate(self.tensors) if t.name == name), None)
        self.tensors[index] = replace(self.tensors[index], name=name)
        self._names.add(name)
        if taken is not None:
            self.tensors[taken] = replace(self.tensors[taken], name=self._unused(name))

    def operator(
        self,
        op: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Options | None = None,
        *,
        version: int = 1,
    ) -> None:
        """Add an operator; operators are executed in the order in which they are added."""
        self.operators.append(OperatorInfo(op, tuple(inputs), tuple(outputs), options, version))

    def metadata(self, name: str, data: bytes) -> None:
        """Attach a named block of bytes."""
        self._metadata[name] = data

    def finish(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        names: tuple[Sequence[str], Sequence[str]],
        description: str,
    ) -> bytes:
        """Pack the model. Equal calls give equal bytes.

        Args:
            inputs: tensors that the caller fills, in order.
            outputs: tensors that the caller reads.
            names: names of both for the signature, by which an app asks for them.
            description: goes into the file.

        Raises:
            QCompileError: SCHEME_UNSUPPORTED when the constants are more than a flatbuffer holds.
        """
        operators, used = self._live(inputs, outputs)
        number = {old: new for new, old in enumerate(used)}
        packed = _Packed()
        s = schema()
        graph = s.SubGraphT()
        graph.name = b"main"
        graph.tensors = [packed.tensor(self.tensors[old]) for old in used]
        graph.operators = [packed.operator(operator, number) for operator in operators]
        graph.inputs = np.asarray([number[i] for i in inputs], np.int32)
        graph.outputs = np.asarray([number[i] for i in outputs], np.int32)
        model = s.ModelT()
        model.version, model.description = _VERSION, description.encode()
        model.subgraphs = [graph]
        model.signatureDefs = [_signature(graph.inputs, graph.outputs, names)]
        model.metadata = [packed.metadata(k, v) for k, v in sorted(self._metadata.items())]
        model.operatorCodes = [_operator_code(*key) for key in packed.codes]
        model.buffers = packed.buffers
        packed.check_size()
        builder = _SharingBuilder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
        return bytes(builder.Output())

    def _live(
        self, inputs: Iterable[int], outputs: Iterable[int]
    ) -> tuple[list[OperatorInfo], list[int]]:
        """The operators whose results are read, and the tensors that they and the ends use."""
        live, kept = set(outputs), []
        for operator in reversed(self.operators):
            if live.intersection(operator.outputs):
                kept.append(operator)
                live.update(operator.outputs)
                live.update(i for i in operator.inputs if i != NONE)
        return kept[::-1], sorted(live.union(inputs))

    def _unused(self, wanted: str, kept: Collection[str] = ()) -> str:
        name, n = wanted, 0
        while name in self._names or name in kept:
            n += 1
            name = f"{wanted}_{n}"
        self._names.add(name)
        return name


class _Packed:
    """The schema's objects for what reaches the file."""

    def __init__(self) -> None:
        self.buffers: list[Any] = [schema().BufferT()]  # number 0: of every tensor without data
        self.codes: dict[tuple[int, int], int] = {}
        self._of: dict[tuple[int, bytes], int] = {}

    def tensor(self, info: TensorInfo) -> Any:
        s = schema()
        made = s.TensorT()
        made.name, made.shape = info.name.encode(), np.asarray(info.shape, np.int32)
        made.type, made.hasRank = tensor_type(info.dtype), True
        if info.signature is not None:
            made.shapeSignature = np.asarray(info.signature, np.int32)
        if info.quantization is not None:
            made.quantization = s.QuantizationParametersT()
            made.quantization.scale = info.quantization.scale
            made.quantization.zeroPoint = info.quantization.zero_point
            made.quantization.quantizedDimension = info.quantization.axis
        made.buffer = 0 if info.data is None else self.buffer(info.data)
        return made

    def operator(self, info: OperatorInfo, number: Mapping[int, int]) -> Any:
        s = schema()
        made = s.OperatorT()
        key = (builtin_code(info.op), info.version)
        made.opcodeIndex = self.codes.setdefault(key, len(self.codes))
        made.inputs = np.asarray([number.get(i, NONE) for i in info.inputs], np.int32)
        made.outputs = np.asarray([number[i] for i in info.outputs], np.int32)
        if info.options is not None:
            made.builtinOptionsType = getattr(s.BuiltinOptions, info.options.table)
            made.builtinOptions = getattr(s, f"{info.options.table}T")()
            for field, value in info.options.fields.items():
                if not hasattr(made.builtinOptions, field):
                    raise AttributeError(f"{info.options.table} has no field {field}")
                setattr(made.builtinOptions, field, value)
        return made

    def buffer(self, data: np.ndarray) -> int:
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        key = (raw.size, hashlib.blake2b(raw.data, digest_size=16).digest())
        if key not in self._of:
            self.buffers.append(_AlignedBuffer(raw))
            self._of[key] = len(self.buffers) - 1
        return self._of[key]

    def metadata(self, name: str, data: bytes) -> Any:
        made = schema().MetadataT()
        made.name = name.encode()
        made.buffer = self.buffer(np.frombuffer(data, np.uint8))
        return made

    def check_size(self) -> None:
        total = sum(size for size, _ in self._of)
        if total > LARGEST:
            raise QCompileError(
                Code.SCHEME_UNSUPPORTED,
                f"the compiled model holds {total / 2**30:.1f} GiB of weights, "
                "more than a TFLite file can",
                hint="choose a scheme with smaller weights",
            )


class _AlignedBuffer:
    """Packs like the schema's BufferT, with the data on an address that kernels load well from.

    The generated code neither honours ``force_align: 16`` nor copies at once.
    """

    def __init__(self, raw: np.ndarray) -> None:
        self.raw = raw

    def Pack(self, builder: flatbuffers.Builder) -> Any:  # noqa: N802
        s = schema()
        size = self.raw.size
        builder.StartVector(1, size, _ALIGNMENT)
        builder.head -= size
        builder.Bytes[builder.head : builder.head + size] = self.raw.data
        data = builder.EndVector()
        s.BufferStart(builder)
        s.BufferAddData(builder, data)
        return s.BufferEnd(builder)


class _SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """A flatbuffer builder that writes equal small vectors once."""

    _LARGEST = 1 << 16

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._vectors: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
        """Write a vector, or find the equal one that was written."""
        if x.nbytes > self._LARGEST:
            return int(super().CreateNumpyVector(x))
        key = (x.dtype.str, x.tobytes())
        if key not in self._vectors:
            self._vectors[key] = int(super().CreateNumpyVector(x))
        return self._vectors[key]


def _operator_code(code: int, version: int) -> Any:
    made = schema().OperatorCodeT()
    made.builtinCode, made.version = code, version
    made.deprecatedBuiltinCode = min(code, _LEGACY_CODES)
    return made


def _signature(
    inputs: Sequence[int], outputs: Sequence[int], names: tuple[Sequence[str], Sequence[str]]
) -> Any:
    s = schema()
    made = s.SignatureDefT()
    made.signatureKey, made.subgraphIndex = b"serving_default", 0

    def entries(indices: Sequence[int], labels: Sequence[str]) -> list[Any]:
        found = []
        for index, label in zip(indices, labels, strict=True):
            entry = s.TensorMapT()
            entry.name, entry.tensorIndex = label.encode(), int(index)
            found.append(entry)
        return found

    made.inputs, made.outputs = entries(inputs, names[0]), entries(outputs, names[1])
    return made
