"""The frames by which this side and the agent on a device talk; both sides run this very file.

A frame, in either direction:

    b"QCF1"   uint32 bytes of the header   header   blobs, one after the other

All numbers are little endian. The header is a JSON object in UTF-8; its ``blobs`` holds
``[bytes, sha256]`` of every blob. Where it has ``arrays``, the blobs are arrays in that order,
little endian and in C order, each described by ``[name, dtype, shape]``, types named as numpy does.
Runs on Python 3.8 and imports nothing of qcompile.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from typing import Any, Callable, Dict, Mapping, Sequence

import numpy as np

Header = Dict[str, Any]
Arrays = Dict[str, np.ndarray]
Read = Callable[[int], bytes]
"""``read(n)``: at least one byte and at most n; none at the end."""

VERSION = 1
MARKER = b"QCOMPILE-AGENT "
"""Starts the line that ends what a shell prints before; the word of the first request follows."""
MAGIC = b"QCF1"
MOST_HEADER = 1 << 24
MOST_BLOBS = 1 << 33
_CHUNK = 1 << 20
_TYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)


class WireError(Exception):
    """What came is not a frame, or not what was sent."""


class FaultError(Exception):
    """A request that cannot be done: the name of an error code of qcompile, and the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def pack(header: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> list[bytes]:
    """The pieces of a frame, in order."""
    sums = [[len(blob), hashlib.sha256(blob).hexdigest()] for blob in blobs]
    text = json.dumps({**header, "blobs": sums}).encode()
    return [MAGIC + struct.pack("<I", len(text)) + text, *blobs]


def read_frame(read: Read) -> tuple[Header, list[bytes]]:
    """Take one frame from a stream.

    Raises:
        EOFError: the stream ended before a frame began.
        WireError: it ended within one, or what came is no frame, too long, or damaged.
    """
    start = read(1)
    if not start:
        raise EOFError
    start += _exactly(read, len(MAGIC) + 3)
    if start[: len(MAGIC)] != MAGIC:
        raise WireError(f"this is not the start of a frame: {start!r}")
    (length,) = struct.unpack("<I", start[len(MAGIC) :])
    if length > MOST_HEADER:
        raise WireError(f"a header of {length} bytes is too long")
    try:
        header = json.loads(_exactly(read, length).decode("utf-8"))
        sums = [(_size(size), str(digest)) for size, digest in header.pop("blobs")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WireError("the header of a frame makes no sense") from error
    if sum(size for size, _ in sums) > MOST_BLOBS:
        raise WireError(f"a frame of more than {MOST_BLOBS} bytes is too long")
    blobs = []
    for size, digest in sums:
        blob = _exactly(read, size)
        if hashlib.sha256(blob).hexdigest() != digest:
            raise WireError(f"{size} bytes arrived damaged: their sha256 differs")
        blobs.append(blob)
    return header, blobs


def _size(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a size must be a number")
    return value


def _exactly(read: Read, size: int) -> bytes:
    parts = []
    while size:
        part = read(min(size, _CHUNK))
        if not part:
            raise WireError("the stream ended within a frame")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def pack_arrays(arrays: Sequence[tuple[str, np.ndarray]]) -> tuple[list[Any], list[bytes]]:
    """Descriptions and blobs of named arrays.

    Raises:
        WireError: one is of a type that the wire does not know, such as text.
    """
    said, blobs = [], []
    for name, value in arrays:
        array = np.asarray(value)
        if array.dtype.name not in _TYPES:
            raise WireError(f"arrays of {array.dtype.name} cannot be sent ({name!r})")
        said.append([name, array.dtype.name, list(array.shape)])
        blobs.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes("C"))
    return said, blobs


def unpack_arrays(said: Any, blobs: Sequence[bytes]) -> list[tuple[str, np.ndarray]]:
    """The named arrays of a frame; they can be written to.

    Raises:
        WireError: a description makes no sense or does not fit its bytes.
    """
    try:
        described = [
            (str(name), str(dtype), tuple(_size(s) for s in shape)) for name, dtype, shape in said
        ]
    except (TypeError, ValueError) as error:
        raise WireError("the description of the arrays makes no sense") from error
    if len(described) != len(blobs):
        raise WireError(f"{len(described)} arrays are described, {len(blobs)} came")
    found = []
    for (name, dtype, shape), blob in zip(described, blobs):
        if dtype not in _TYPES:
            raise WireError(f"arrays of type {dtype!r} are not known")
        kind = np.dtype(dtype)
        if math.prod(shape) * kind.itemsize != len(blob) or len(shape) > 32:
            raise WireError(f"{len(blob)} bytes are no {dtype} {shape}")
        flat = np.frombuffer(blob, kind.newbyteorder("<")).astype(kind)
        try:
            found.append((name, flat.reshape(shape)))
        except ValueError as error:  # no element, but sizes that numpy cannot count
            raise WireError(f"there is no array of shape {shape}") from error
    return found
