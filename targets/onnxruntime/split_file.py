"""A model of one large file becomes a small one beside its weights, without being read whole."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from qcompile.core.on_disk import LARGE, LEAST

DATA: Final = "weights.data"
_ALIGNED: Final = 64
_CHUNK: Final = 1 << 20

# Numbers of fields in onnx.proto, and of the wire types that protobuf writes.
_GRAPH, _INITIALIZER = 7, 5
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14
_EXTERNAL: Final = 1
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


@dataclass(frozen=True)
class _Field:
    number: int
    first: int
    """Where its tag stands."""
    start: int
    """Where what it holds begins."""
    end: int


def split_file(source: Path, folder: Path) -> Path | None:
    """The same model as a file in ``folder`` whose large weights lie in a second one beside it.

    ONNX Runtime maps those, where of one large message it makes several copies on its way. Bytes
    are copied as they are, a piece at a time.

    Returns:
        The new file; None where the model is small, or not of one file with its weights as raw
        bytes: it is to be opened as it is.
    """
    size = source.stat().st_size
    if size < LEAST:
        return None
    try:
        with source.open("rb") as file, (folder / DATA).open("wb") as data:
            parts = []
            for field in _fields(file, 0, size):
                if field.number == _GRAPH:
                    parts.append(_held(_GRAPH, _graph(file, field, data)))
                else:
                    parts.append(_read(file, field.first, field.end))
    except ValueError:
        return None
    made = folder / "model.onnx"
    made.write_bytes(b"".join(parts))
    return made


def _graph(file: BinaryIO, graph: _Field, data: BinaryIO) -> bytes:
    parts = []
    for field in _fields(file, graph.start, graph.end):
        if field.number == _INITIALIZER:
            parts.append(_held(_INITIALIZER, _tensor(file, field, data)))
        else:
            parts.append(_read(file, field.first, field.end))
    return b"".join(parts)


def _tensor(file: BinaryIO, tensor: _Field, data: BinaryIO) -> bytes:
    parts = []
    for field in _fields(file, tensor.start, tensor.end):
        if field.number == _EXTERNAL_DATA:
            raise ValueError("its weights lie in files of their own")
        if field.number != _RAW_DATA or field.end - field.start < LARGE:
            parts.append(_read(file, field.first, field.end))
            continue
        offset = -(-data.tell() // _ALIGNED) * _ALIGNED
        data.seek(offset)
        for at in range(field.start, field.end, _CHUNK):
            data.write(_read(file, at, min(at + _CHUNK, field.end)))
        place = {"location": DATA, "offset": offset, "length": field.end - field.start}
        for key, value in place.items():
            entry = _held(1, key.encode()) + _held(2, str(value).encode())
            parts.append(_held(_EXTERNAL_DATA, entry))
        parts.append(_number(_DATA_LOCATION << 3 | _VARINT) + _number(_EXTERNAL))
    return b"".join(parts)


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[_Field]:
    """The fields of a message; ValueError where it does not read as one."""
    at = start
    while at < end:
        first = at
        file.seek(at)
        tag = _varint(file)
        number, wire = tag >> 3, tag & 7
        if not number:
            raise ValueError("no message")
        if wire == _BYTES:
            length = _varint(file)
            at = file.tell()
        elif wire == _VARINT:
            at, length = file.tell(), 0
            _varint(file)
            length = file.tell() - at
        elif wire in {_EIGHT, _FOUR}:
            at, length = file.tell(), 8 if wire == _EIGHT else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + length > end:
            raise ValueError("cut off")
        yield _Field(number, first, at, at + length)
        at += length


def _varint(file: BinaryIO) -> int:
    found = shift = 0
    while True:
        byte = file.read(1)
        if not byte or shift > 63:
            raise ValueError("cut off")
        found |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return found
        shift += 7


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _held(number: int, content: bytes) -> bytes:
    return _number(number << 3 | _BYTES) + _number(len(content)) + content


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
