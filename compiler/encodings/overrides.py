"""``TensorQuantOverrides`` of ONNX Runtime's ``quantize_static``, as JSON.

A table: tensor name -> a list with one record for the tensor, or one a channel, the first of which
says the axis. In Python the tool wants types of its own in it: ``for_tool`` makes them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from qcompile.compiler.encodings.record import (
    FAULTS,
    Encoding,
    Encodings,
    Record,
    make,
    numbers,
    split,
)
from qcompile.core.numerics.affine import asymmetric_params, storage_type, symmetric_params

KEY: Final = "TensorQuantOverrides"
_TYPES: Final = {
    "QInt4": "int4",
    "QUInt4": "uint4",
    "QInt8": "int8",
    "QUInt8": "uint8",
    "QInt16": "int16",
    "QUInt16": "uint16",
}
"""Name of a member of ``onnxruntime.quantization.QuantType`` -> quantized type."""


def document(encodings: Sequence[Encoding]) -> dict[str, Any]:
    """The document: what goes into ``extra_options["TensorQuantOverrides"]``."""
    names = {dtype: name for name, dtype in _TYPES.items()}
    return {e.name: _records(e, names[e.dtype]) for e in encodings if e.dtype in names}


def _records(e: Encoding, kind: str) -> list[dict[str, Any]]:
    head = {"quant_type": kind} | ({"axis": e.axis} if e.params.scale.ndim else {})
    zeros = [int(zero) for zero in e.params.zero_point.reshape(-1)]
    return [
        {**head, "scale": scale, "zero_point": zero}
        for scale, zero in zip(numbers(e.params.scale), zeros, strict=True)
    ]


def for_tool(overrides: Mapping[str, Sequence[Record]], quant_type: Any) -> dict[str, Any]:
    """The document with the Python types that ``quantize_static`` of ONNX Runtime 1.32 expects.

    Args:
        overrides: as ``document`` gives it, or read from the file.
        quant_type: ``onnxruntime.quantization.QuantType``; that package needs extras, so who calls
            imports it.
    """
    return {
        name: [_record_for_tool(one, quant_type) for one in records]
        for name, records in overrides.items()
    }


def _record_for_tool(record: Record, quant_type: Any) -> dict[str, Any]:
    kind = storage_type(_TYPES[record["quant_type"]])
    return {
        **record,
        "quant_type": quant_type[record["quant_type"]],
        "scale": np.asarray(record["scale"], np.float32),
        "zero_point": np.asarray(record["zero_point"], kind),
    }


def read(overrides: Record) -> Encodings:
    """Read a document, also one that stands under its own name.

    Raises:
        ValueError, TypeError: naming the tensor and what is wrong with its records.
    """
    table = overrides[KEY] if set(overrides) == {KEY} else overrides
    if not isinstance(table, Mapping):
        raise TypeError(f"{KEY} must be a table")
    return split(_all(table))


def _all(table: Mapping[str, Any]) -> Iterator[tuple[str, Encoding | str]]:
    for name, records in table.items():
        try:
            yield name, _one(name, records)
        except FAULTS as error:
            what = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{name}: {what}") from error


def _one(name: str, records: Any) -> Encoding | str:
    if not isinstance(records, list) or not all(isinstance(r, Mapping) for r in records):
        raise ValueError("it must be a list of tables")
    if not records or not ({"scale", "rmin"} & set(records[0])):
        return "the file gives it no scale"
    first = records[0]
    if "convert" in first:
        return "a conversion from one type to another is not supported"
    kind = str(first["quant_type"]).removeprefix("QuantType.")
    if kind not in _TYPES:
        raise ValueError(f"quant_type {kind!r} is none of {', '.join(_TYPES)}")
    dtype = _TYPES[kind]
    read_one = _given if "scale" in first else _of_range
    scales, zeros = zip(*(read_one(r, dtype, first) for r in records), strict=True)
    axis = first.get("axis")
    return make(
        name,
        dtype,
        scales,
        zeros,
        per_channel=axis is not None,
        axis=axis,
        symmetric=bool(first.get("symmetric", False)),
        is_parameter=axis is not None,
    )


Reader = Callable[[Record, str, Record], tuple[float, float]]


def _given(record: Record, _dtype: str, _first: Record) -> tuple[float, float]:
    return _number(record["scale"]), _number(record["zero_point"])


def _of_range(record: Record, dtype: str, first: Record) -> tuple[float, float]:
    """By the rule of ``core.numerics.affine``, on the whole range of the type."""
    if first.get("reduce_range"):
        raise ValueError("reduce_range is not supported; give scale and zero_point")
    low, high = np.asarray(_number(record["rmin"])), np.asarray(_number(record["rmax"]))
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError("rmin and rmax must be finite, and rmin the smaller one")
    if first.get("symmetric"):
        scale, zero = symmetric_params(np.maximum(-low, high), dtype)
    else:
        scale, zero = asymmetric_params(low, high, dtype)
    return float(scale), float(zero)


def _number(given: Any) -> float:
    """A number, also as a list of one or as text: dumped arrays become either."""
    found = np.asarray(given, np.float64).reshape(-1)
    if found.size != 1:
        raise ValueError(f"{found.size} numbers where one is expected")
    return float(found[0])
