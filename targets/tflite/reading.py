"""A TFLite flatbuffer as plain data: what the verifier, the proof and the numpy evaluator read."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.builder import Quantization
from qcompile.targets.tflite.schema import builtin_names, schema, type_names

IDENTIFIER = b"TFL3"
"""Bytes 4 to 7 of every file; a runtime refuses a file without them."""

BITS: Mapping[str, int] = {
    "int2": 2,
    "int4": 4,
    "uint4": 4,
    "bool": 8,
    "int8": 8,
    "uint8": 8,
    "int16": 16,
    "uint16": 16,
    "float16": 16,
    "bfloat16": 16,
    "int32": 32,
    "uint32": 32,
    "float32": 32,
    "int64": 64,
    "uint64": 64,
    "float64": 64,
}
"""Bits of an element; smaller ones than a byte are packed, the first in the lowest bits."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of the graph."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    """In lower case, as ``int8``, ``float32`` or ``bool``."""
    quantization: Quantization | None
    """Scales and zero points as they stand in the file, whatever their lengths."""
    raw: np.ndarray | None
    """Bytes of a constant; None for what is computed."""
    is_variable: bool = False
    is_blockwise: bool = False
    is_sparse: bool = False
    """Whether its elements are stored without their zeros; ``raw`` is then not what it seems."""
    signature: tuple[int, ...] = ()
    """The shape with -1 for what the caller may choose; empty where the file does not say."""

    @property
    def is_constant(self) -> bool:
        """Whether its elements are in the file."""
        return self.raw is not None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take."""
        return -(-self.size * BITS.get(self.dtype, 8) // 8)

    @cached_property
    def array(self) -> np.ndarray:
        """Elements of a constant in the tensor's shape; 2 and 4-bit types unpacked to a byte."""
        assert self.raw is not None
        bits = BITS[self.dtype]
        if bits < 8:
            return _unpack(self.raw, bits, self.size, signed=self.dtype[0] == "i").reshape(
                self.shape
            )
        kind = "float32" if self.dtype == "bfloat16" else self.dtype
        return self.raw.view(np.dtype(kind)).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator; inputs that are left out have index -1."""

    index: int
    name: str
    """As ``CONV_2D``; a custom operator's own name behind ``custom:``."""
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]
    """Fields of its builtin options, in the spelling of the schema's Python bindings."""
    intermediates: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Graph:
    """One subgraph of a model, and what the file says of the whole."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    version: int
    subgraphs: int
    signatures: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]]
    """Key -> names of inputs and of outputs -> their tensors."""
    metadata: Mapping[str, bytes]
    signature: str | None = None
    """The signature whose graph this is, where one was asked for."""

    def tensor(self, index: int) -> Tensor | None:
        """A tensor by index; None for one that is left out."""
        return self.tensors[index] if 0 <= index < len(self.tensors) else None


def read_graph(data: bytes, signature: str | None = None) -> Graph:
    """Parse a file; constants are views of ``data``.

    Args:
        data: the file.
        signature: whose subgraph is read [the first subgraph].

    Raises:
        QCompileError: MODEL_INVALID when it is no TFLite model or its inner offsets lead nowhere;
            BAD_OPTION for a signature that it does not have.
    """
    if data[4:8] != IDENTIFIER:
        raise QCompileError(
            Code.MODEL_INVALID, f"no TFLite model: its identifier is {data[4:8]!r}, not 'TFL3'"
        )
    s = schema()
    try:
        root = s.Model.GetRootAsModel(data, 0)
        _insist_on_room(root, len(data))
        return _graph(s.ModelT.InitFromObj(root), data, signature)
    except (struct.error, TypeError) as error:
        # What the generated bindings run into when an offset leads nowhere.
        what = "the TFLite model is damaged: an offset in it leads nowhere"
        raise QCompileError(Code.MODEL_INVALID, what) from error
    except (IndexError, ValueError, AttributeError, KeyError) as error:
        raise QCompileError(
            Code.MODEL_INVALID, f"the TFLite model is damaged: {error or type(error).__name__}"
        ) from error


def _insist_on_room(root: Any, size: int) -> None:
    """Refuse vectors that together cannot be in the file: following them would take forever.

    Every entry of a vector takes 4 bytes at least, and no writer lets two vectors overlap.
    """
    left = size // 4
    vectors = ("Subgraphs", "OperatorCodes", "Buffers", "Metadata", "SignatureDefs")
    left -= sum(getattr(root, f"{name}Length")() for name in vectors)
    for i in range(root.SubgraphsLength() if left >= 0 else 0):
        graph = root.Subgraphs(i)
        left -= graph.TensorsLength() + graph.OperatorsLength()
        for j in range(graph.TensorsLength() if left >= 0 else 0):
            tensor = graph.Tensors(j)
            left -= tensor.ShapeLength() + tensor.VariantTensorsLength()
        for j in range(graph.OperatorsLength() if left >= 0 else 0):
            operator = graph.Operators(j)
            left -= operator.InputsLength() + operator.OutputsLength()
            left -= operator.IntermediatesLength()
    if left < 0:
        raise ValueError("its vectors are longer than the file")


def _graph(model: Any, data: bytes, signature: str | None) -> Graph:
    if not model.subgraphs:
        raise ValueError("it has no graph")
    graph = model.subgraphs[_subgraph_of(model, signature)]
    buffers = [_buffer(made, data) for made in _list(model.buffers)]
    return Graph(
        tuple(_tensor(i, t, buffers) for i, t in enumerate(_list(graph.tensors))),
        tuple(_operator(i, o, model.operatorCodes) for i, o in enumerate(_list(graph.operators))),
        _indices(graph.inputs),
        _indices(graph.outputs),
        model.version,
        len(model.subgraphs),
        {
            _text(d.signatureKey): (_entries(d.inputs), _entries(d.outputs))
            for d in _list(model.signatureDefs)
        },
        {_text(m.name): _bytes(buffers, m.buffer) for m in _list(model.metadata)},
        signature,
    )


def _subgraph_of(model: Any, signature: str | None) -> int:
    if signature is None:
        return 0
    known = {_text(d.signatureKey): int(d.subgraphIndex) for d in _list(model.signatureDefs)}
    if signature not in known:
        told = ", ".join(sorted(known)) or "none"
        raise QCompileError(
            Code.BAD_OPTION, f"the model has no signature {signature!r}; it has: {told}"
        )
    return known[signature]


def _buffer(made: Any, data: bytes) -> np.ndarray | None:
    """Bytes of a buffer: in the flatbuffer, or (in files of several GB) behind it."""
    if made.data is not None and len(made.data):
        return np.asarray(made.data, np.uint8)
    if made.offset <= 1 or not made.size:
        return None
    if made.offset + made.size > len(data):
        raise ValueError(f"a buffer ends at byte {made.offset + made.size} of {len(data)}")
    return np.frombuffer(data, np.uint8, made.size, made.offset)


def _tensor(index: int, made: Any, buffers: Any) -> Tensor:
    quantization, blockwise = None, False
    q = made.quantization
    if q is not None and q.scale is not None and len(q.scale):
        zeros = q.zeroPoint if q.zeroPoint is not None else []
        quantization = Quantization(
            np.asarray(q.scale, np.float32), np.asarray(zeros, np.int64), q.quantizedDimension
        )
        blockwise = q.details is not None
    if not 0 <= made.buffer < len(buffers):
        raise ValueError(f"tensor {index} refers to buffer {made.buffer} of {len(buffers)}")
    return Tensor(
        index,
        _text(made.name),
        _indices(made.shape),
        type_names().get(made.type, str(made.type)),
        quantization,
        buffers[made.buffer],
        bool(made.isVariable),
        blockwise,
        made.sparsity is not None,
        _indices(made.shapeSignature),
    )


def _operator(index: int, made: Any, codes: Any) -> Operator:
    if not 0 <= made.opcodeIndex < len(codes):
        raise ValueError(f"operator {index} refers to code {made.opcodeIndex} of {len(codes)}")
    code = codes[made.opcodeIndex]
    # Files from before 2020 have the small field alone.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = builtin_names().get(number, str(number))
    if name == "CUSTOM":
        name = f"custom:{_text(code.customCode)}"
    given = made.builtinOptions if made.builtinOptions is not None else made.builtinOptions2
    options = {} if given is None else dict(vars(given))
    return Operator(
        index,
        name,
        code.version,
        _indices(made.inputs),
        _indices(made.outputs),
        options,
        _indices(made.intermediates),
    )


def _list(items: Any) -> Any:
    return [] if items is None else items


def _indices(items: Any) -> tuple[int, ...]:
    return () if items is None else tuple(int(i) for i in items)


def _text(name: bytes | str | None) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name or ""


def _entries(items: Any) -> dict[str, int]:
    return {_text(entry.name): entry.tensorIndex for entry in _list(items)}


def _bytes(buffers: Any, index: int) -> bytes:
    data = buffers[index]
    return b"" if data is None else bytes(data.tobytes())


def _unpack(raw: np.ndarray, bits: int, count: int, *, signed: bool) -> np.ndarray:
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = ((raw[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:count].astype(np.int8)
    if signed:
        parts = np.where(parts >= 1 << (bits - 1), parts - (1 << bits), parts).astype(np.int8)
    return parts
