"""Assembles a TFLite flatbuffer: tensors, buffers, operators, signature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np

from qcompile.targets.tflite.schema import builtin_code, schema, tensor_type

NONE = -1
"""Index of an optional input that is left out."""

_IDENTIFIER = b"TFL3"
_VERSION = 3
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
        cls, scale: np.ndarray, zero_point: np.ndarray, axis: int | None = None
    ) -> "Quantization":
        """From scalars or vectors of any shape."""
        flat = np.asarray(scale, np.float32).reshape(-1)
        zeros = np.broadcast_to(np.asarray(zero_point, np.int64).reshape(-1), flat.shape)
        return cls(flat, zeros.copy(), axis or 0)

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


class Builder:
    """Collects a model of one subgraph and packs it.

    Equal constants share a buffer. Equal small vectors (shapes, scales, zero points) are written
    once: in a model of many per-channel layers they are a percent of the file.
    """

    def __init__(self) -> None:
        self.tensors: list[TensorInfo] = []
        self._objects: list[Any] = []
        self._buffers: list[Any] = [schema().BufferT()]  # number 0 is empty by convention
        self._buffer_of: dict[tuple[str, bytes], int] = {}
        self._codes: dict[tuple[int, int], int] = {}
        self._operators: list[Any] = []
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
            name: as the app sees it.
            shape: every dimension a number.
            dtype: numpy's name of the element type; 4 and 2-bit types by TFLite's (``int4``),
                their data then being packed bytes.
            quantization: of an integer tensor.
            data: elements of a constant, in ``shape``.
            signature: shape with -1 where a dimension is open.
        """
        s = schema()
        made = s.TensorT()
        made.name, made.shape = name.encode(), np.asarray(shape, np.int32)
        made.type, made.hasRank = tensor_type(dtype), True
        if signature is not None:
            made.shapeSignature = np.asarray(signature, np.int32)
        if quantization is not None:
            made.quantization = s.QuantizationParametersT()
            made.quantization.scale = quantization.scale
            made.quantization.zeroPoint = quantization.zero_point
            made.quantization.quantizedDimension = quantization.axis
        made.buffer = 0 if data is None else self._buffer(data)
        if data is None:
            # A tensor that is computed has a buffer of its own, empty, as other writers do it.
            self._buffers.append(s.BufferT())
            made.buffer = len(self._buffers) - 1
        self._objects.append(made)
        self.tensors.append(TensorInfo(name, tuple(shape), dtype, quantization, data))
        return len(self.tensors) - 1

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
        s = schema()
        made = s.OperatorT()
        made.opcodeIndex = self._code(builtin_code(op), version)
        made.inputs, made.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
        if options is not None:
            made.builtinOptionsType = getattr(s.BuiltinOptions, options.table)
            made.builtinOptions = getattr(s, f"{options.table}T")()
            for field, value in options.fields.items():
                if not hasattr(made.builtinOptions, field):
                    raise AttributeError(f"{options.table} has no field {field}")
                setattr(made.builtinOptions, field, value)
        self._operators.append(made)

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
        """Pack the model.

        Args:
            inputs: tensors that the caller fills, in order.
            outputs: tensors that the caller reads.
            names: names of both for the signature, by which an app asks for them.
            description: goes into the file.
        """
        s = schema()
        graph = s.SubGraphT()
        graph.name, graph.tensors, graph.operators = b"main", self._objects, self._operators
        graph.inputs, graph.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
        model = s.ModelT()
        model.version, model.description = _VERSION, description.encode()
        model.subgraphs, model.buffers = [graph], self._buffers
        model.operatorCodes = [self._operator_code(*key) for key in self._codes]
        model.signatureDefs = [_signature(inputs, outputs, names)]
        model.metadata = [self._metadata_entry(k, v) for k, v in sorted(self._metadata.items())]
        builder = _SharingBuilder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
        return bytes(builder.Output())

    def _buffer(self, data: np.ndarray) -> int:
        raw = np.ascontiguousarray(data)
        key = (raw.dtype.str, raw.tobytes())
        if key not in self._buffer_of:
            made = schema().BufferT()
            # As an array: packing a list or bytes object goes through Python, byte by byte.
            made.data = raw.reshape(-1).view(np.uint8)
            self._buffers.append(made)
            self._buffer_of[key] = len(self._buffers) - 1
        return self._buffer_of[key]

    def _code(self, code: int, version: int) -> int:
        return self._codes.setdefault((code, version), len(self._codes))

    def _operator_code(self, code: int, version: int) -> Any:
        made = schema().OperatorCodeT()
        made.builtinCode, made.version = code, version
        made.deprecatedBuiltinCode = min(code, _LEGACY_CODES)
        return made

    def _metadata_entry(self, name: str, data: bytes) -> Any:
        made = schema().MetadataT()
        made.name = name.encode()
        made.buffer = self._buffer(np.frombuffer(data, np.uint8))
        return made


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
            entry.name, entry.tensorIndex = label.encode(), index
            found.append(entry)
        return found

    made.inputs, made.outputs = entries(inputs, names[0]), entries(outputs, names[1])
    return made
