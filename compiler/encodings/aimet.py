"""AIMET's encodings JSON: versions 0.6.1, 1.0.0 and 2.0.0, as AIMET 2.42 writes and reads them.

The first two give ``x = (q + offset) * scale`` with ``q`` from 0 to ``2**bits - 1`` whatever the
type, so ``offset`` is minus the zero point of the *unsigned* type; a symmetric tensor of 8 bits has
-128. They name no axis: a vector lies along the output channels. Version 2.0.0 gives the type, the
zero point in that type, and the axis, as ONNX's QuantizeLinear has them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from qcompile.compiler.encodings.record import (
    FAULTS,
    Encoding,
    Encodings,
    Record,
    integer_type,
    make,
    numbers,
    split,
)
from qcompile.core.numerics.affine import LIMITS, bit_width, zero_offset

SECTIONS: Final = ("activation_encodings", "param_encodings")
_FLOAT: Final = "the file has it in float"


# --- writing ---------------------------------------------------------------------------------


def document_0_6_1(encodings: Sequence[Encoding]) -> dict[str, Any]:
    """The document of version 0.6.1: a table of lists, an entry a channel."""
    return {
        "version": "0.6.1",
        **{
            section: {e.name: _channels(e) for e in _of_section(section, encodings)}
            for section in SECTIONS
        },
    }


def document_1_0_0(encodings: Sequence[Encoding]) -> dict[str, Any]:
    """The document of version 1.0.0: lists of entries, which name their tensor."""
    return {
        "version": "1.0.0",
        **{section: [_entry(e) for e in _of_section(section, encodings)] for section in SECTIONS},
    }


def document_2_0_0(encodings: Sequence[Encoding]) -> dict[str, Any]:
    """The document of version 2.0.0: one list, with the fields of QuantizeLinear."""
    return {"version": "2.0.0", "encodings": [_linear(e) for e in encodings]}


def _of_section(section: str, encodings: Sequence[Encoding]) -> Iterator[Encoding]:
    wanted = section == "param_encodings"
    return (e for e in encodings if e.is_parameter == wanted)


def _channels(e: Encoding) -> list[dict[str, Any]]:
    bits = bit_width(e.dtype)
    return [
        {
            "bitwidth": bits,
            "dtype": "int",
            "is_symmetric": str(e.symmetric),
            "max": scale * (offset + 2**bits - 1),
            "min": scale * offset,
            "offset": offset,
            "scale": scale,
        }
        for scale, offset in zip(numbers(e.params.scale), _offsets(e), strict=True)
    ]


def _entry(e: Encoding) -> dict[str, Any]:
    return {
        "name": e.name,
        "bw": bit_width(e.dtype),
        "dtype": "INT",
        "enc_type": "PER_CHANNEL" if e.params.scale.ndim else "PER_TENSOR",
        "is_sym": e.symmetric,
        "offset": _offsets(e),
        "scale": numbers(e.params.scale),
    }


def _linear(e: Encoding) -> dict[str, Any]:
    scales, zeros = numbers(e.params.scale), [int(z) for z in e.params.zero_point.reshape(-1)]
    if not e.params.scale.ndim:
        return _named(e, scales[0], zeros[0])
    return {**_named(e, scales, zeros), "axis": e.axis}


def _named(e: Encoding, scale: Any, zero: Any) -> dict[str, Any]:
    return {"name": e.name, "output_dtype": e.dtype, "y_scale": scale, "y_zero_point": zero}


def _offsets(e: Encoding) -> list[int]:
    unsigned = integer_type(bit_width(e.dtype), signed=False) or e.dtype
    return [-int(zero) for zero in e.retyped(unsigned).zero_point.reshape(-1)]


# --- reading ---------------------------------------------------------------------------------


def read(document: Record) -> Encodings:
    """Read a document of any of the versions.

    Raises:
        ValueError, TypeError: naming the tensor and what is wrong with its entry.
    """
    version = document.get("version")
    if version is None:  # files from before versions were written
        version = "0.6.1" if isinstance(document.get(SECTIONS[0]), dict) else "1.0.0"
    match version:
        case "0.6.1":
            return split(_tables(document))
        case "1.0.0":
            return split(_lists(document, SECTIONS, _from_entry))
        case "2.0.0" | "2.1.0":
            return split(_lists(document, ("encodings",), _from_linear))
        case _:
            raise ValueError(f"version {version!r} of AIMET's encodings is not known")


def _tables(document: Record) -> Iterator[tuple[str, Encoding | str]]:
    for section in SECTIONS:
        table = document.get(section, {})
        if not isinstance(table, Mapping):
            raise TypeError(f"{section} must be a table in version 0.6.1")
        for name, entries in table.items():
            yield name, _told(name, _from_channels, entries, section)


def _lists(
    document: Record,
    sections: Sequence[str],
    reader: Callable[[str, Any, str], Encoding | str],
) -> Iterator[tuple[str, Encoding | str]]:
    for section in sections:
        entries = document.get(section, [])
        if not isinstance(entries, list):
            raise TypeError(f"{section} must be a list in this version")
        for entry in entries:
            name = entry.get("name") if isinstance(entry, Mapping) else None
            if not isinstance(name, str):
                raise TypeError(f"an entry of {section} names no tensor")
            yield name, _told(name, reader, entry, section)


def _told(
    name: str, reader: Callable[[str, Any, str], Encoding | str], entry: Any, section: str
) -> Encoding | str:
    try:
        return reader(name, entry, section)
    except FAULTS as error:
        what = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{section}, {name}: {what}") from error


def _from_channels(name: str, entries: Any, section: str) -> Encoding | str:
    entries = entries if isinstance(entries, list) else [entries]
    first = entries[0]
    if str(first["dtype"]).lower() != "int":
        return _FLOAT
    bits = int(first["bitwidth"])
    pairs = [_scale_and_offset(one, bits) for one in entries]
    scales, offsets = zip(*pairs, strict=True)
    symmetric = str(first.get("is_symmetric", False)).lower() == "true"
    return _of_offsets(
        name, bits, symmetric, scales, offsets, section, per_channel=len(entries) > 1
    )


def _scale_and_offset(entry: Record, bits: int) -> tuple[float, float]:
    """Both, worked out from the range where a file, as those for QNN may, gives only that."""
    if "scale" in entry:
        return float(entry["scale"]), float(entry["offset"])
    low, high = float(entry["min"]), float(entry["max"])
    scale = (high - low) / (2**bits - 1)
    return scale, float(np.rint(low / scale)) if scale > 0 else 0.0


def _from_entry(name: str, entry: Any, section: str) -> Encoding | str:
    if str(entry["dtype"]).upper() != "INT":
        return _FLOAT
    kind = entry["enc_type"]
    if kind not in {"PER_TENSOR", "PER_CHANNEL"}:
        return f"scales of type {kind} are not supported"
    return _of_offsets(
        name,
        int(entry["bw"]),
        bool(entry["is_sym"]),
        entry["scale"],
        entry["offset"],
        section,
        per_channel=kind == "PER_CHANNEL",
    )


def _of_offsets(
    name: str,
    bits: int,
    symmetric: bool,
    scales: Any,
    offsets: Any,
    section: str,
    *,
    per_channel: bool,
) -> Encoding | str:
    dtype = integer_type(bits, signed=symmetric)
    if dtype is None:
        return f"it has {bits} bits"
    lowest = LIMITS[dtype][0]
    return make(
        name,
        dtype,
        scales,
        lowest - np.asarray(offsets, np.float64),
        per_channel=per_channel,
        symmetric=symmetric,
        is_parameter=section == "param_encodings",
    )


def _from_linear(name: str, entry: Any, _section: str) -> Encoding | str:
    kind = entry["output_dtype"]
    if kind not in LIMITS:
        return _FLOAT if "int" not in str(kind) else f"its type is {kind}"
    if "y_scale" not in entry or "block_size" in entry:
        return "scales by block are not supported"
    axis = entry.get("axis")
    zeros = entry.get("y_zero_point", 0)
    zeros = 0 if zeros is None else zeros
    return make(
        name,
        kind,
        entry["y_scale"],
        zeros,
        per_channel=axis is not None,
        axis=axis,
        symmetric=bool(np.all(np.asarray(zeros) == zero_offset(kind))),
    )
