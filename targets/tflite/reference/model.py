"""Reads a finished TFLite file into the tensors and operators that the evaluator walks."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.reference.call import Tensor
from qcompile.targets.tflite.schema import builtin_names, schema, type_names

_PACKED_BITS = {"int4": 4, "uint4": 4, "int2": 2}
"""Types several of which share a byte, the low bits first."""
_IDENTIFIER = slice(4, 8)


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator and the indices of its tensors (-1: left out)."""

    name: str
    version: int
    options: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Model:
    """The one graph of a file."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: dict[str, int]
    """Name, by the signature if there is one, else the tensor's -> tensor."""
    outputs: dict[str, int]


def read(data: bytes) -> Model:
    """Parse a file.

    Raises:
        QCompileError: NOT_A_MODEL when it is no TFLite file, SCHEME_UNSUPPORTED when it holds
            several graphs.
    """
    if bytes(data[_IDENTIFIER]) != b"TFL3":
        raise QCompileError(Code.NOT_A_MODEL, "not a TFLite model: its identifier is not TFL3")
    s = schema()
    root = s.ModelT.InitFromObj(s.Model.GetRootAs(bytearray(data), 0))
    if len(root.subgraphs) != 1:
        raise QCompileError(
            Code.SCHEME_UNSUPPORTED, f"the model has {len(root.subgraphs)} graphs, not one"
        )
    graph = root.subgraphs[0]
    tensors = tuple(
        _tensor(made, root.buffers[made.buffer].data, index)
        for index, made in enumerate(graph.tensors)
    )
    codes = [_code(c) for c in root.operatorCodes]
    operators = tuple(_operator(o, codes) for o in graph.operators or ())
    signature = root.signatureDefs[0] if root.signatureDefs else None
    return Model(
        tensors,
        operators,
        _named(graph.inputs, tensors, None if signature is None else signature.inputs),
        _named(graph.outputs, tensors, None if signature is None else signature.outputs),
    )


def _code(code: Any) -> tuple[str, int]:
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return builtin_names()[number], code.version


def _operator(made: Any, codes: list[tuple[str, int]]) -> Operator:
    name, version = codes[made.opcodeIndex]
    options = made.builtinOptions if made.builtinOptions is not None else made.builtinOptions2
    return Operator(name, version, options, _indices(made.inputs), _indices(made.outputs))


def _indices(vector: Any) -> tuple[int, ...]:
    return () if vector is None else tuple(int(i) for i in vector)


def _named(indices: Any, tensors: tuple[Tensor, ...], entries: Any) -> dict[str, int]:
    if entries:
        return {entry.name.decode(): int(entry.tensorIndex) for entry in entries}
    return {tensors[int(i)].name: int(i) for i in indices}


def _tensor(made: Any, raw: Any, index: int) -> Tensor:
    dtype = type_names()[made.type]
    shape = _indices(made.shape)
    name = made.name.decode() if made.name else f"tensor_{index}"
    scales = zeros = None
    axis = 0
    q = made.quantization
    if q is not None and q.scale is not None and len(q.scale):
        scales = np.asarray(q.scale, np.float32)
        zeros = np.asarray(q.zeroPoint if q.zeroPoint is not None else [0], np.int64)
        axis = q.quantizedDimension
    data = None if raw is None or len(raw) == 0 else _elements(np.asarray(raw), dtype, shape)
    return Tensor(name, shape, dtype, scales, zeros, axis, data)


def _elements(raw: np.ndarray, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if dtype in _PACKED_BITS:
        return _unpacked(raw, _PACKED_BITS[dtype], dtype, shape)
    return raw.view(np.dtype(dtype)).reshape(shape)


def _unpacked(raw: np.ndarray, bits: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = ((raw[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)
    count = int(np.prod(shape))
    values = fields[:count].astype(np.int16)
    if dtype.startswith("int"):
        values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)
    return values.astype(np.int8).reshape(shape)
