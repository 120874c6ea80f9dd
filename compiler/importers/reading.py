"""Reads a file into an ONNX message, and tells apart what is wrong with a file that is none."""

import stat
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from qcompile.core.errors import Code, QCompileError

LARGEST_MESSAGE = (1 << 31) - 1
"""Bytes: protobuf cannot parse a longer message, nor can any ONNX tool write one."""

GRAPH_FIELD = 7
"""Field number of ``graph`` in ModelProto (onnx.proto)."""

OTHER_FORMATS = (
    (4, b"TFL3", "a TFLite model"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\x89HDF", "an HDF5 file (an old Keras model?)"),
    (0, b"PK\x03\x04", "a zip archive (a .keras, .npz or PyTorch file?)"),
    (0, b"\x93NUMPY", "a numpy array"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file it points to"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
)
"""(offset, bytes found there, what such a file is)."""


def read_model_proto(path: Path) -> onnx.ModelProto:
    """Parse a model file; external data stay where they are.

    Raises:
        QCompileError: MODEL_NOT_FOUND, MODEL_UNREADABLE (a folder, a device, no permission),
            NOT_A_MODEL, MODEL_TRUNCATED, MODEL_INVALID (over 2 GB, or no graph in it).
    """
    data = read_model_file(path)
    if not data:
        raise QCompileError(Code.NOT_A_MODEL, f"{path} is empty")
    for offset, magic, what in OTHER_FORMATS:
        if data[offset : offset + len(magic)] == magic:
            raise QCompileError(Code.NOT_A_MODEL, f"{path} is {what}, not an ONNX model")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise _undecodable(path, data) from error
    if not proto.HasField("graph"):
        # A few bytes of text can be a legal message of unknown fields.
        raise QCompileError(Code.NOT_A_MODEL, f"{path} holds no ONNX graph")
    if not proto.opset_import:
        raise QCompileError(
            Code.MODEL_INVALID,
            f"{path} does not say which opset it uses",
            hint="the end of the file may be missing: fetch or export it again",
        )
    return proto


def read_model_file(path: Path) -> bytes:
    """The bytes of a model file, whatever its format.

    Raises:
        QCompileError: MODEL_NOT_FOUND, MODEL_UNREADABLE (a folder, a device, no permission).
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise QCompileError(Code.MODEL_NOT_FOUND, f"{path} does not exist") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise QCompileError(
            Code.MODEL_UNREADABLE,
            f"{path} is a folder",
            hint="name the .onnx file in it",
        )
    if not stat.S_ISREG(status.st_mode):
        raise QCompileError(Code.MODEL_UNREADABLE, f"{path} is not a regular file")
    if status.st_size > LARGEST_MESSAGE:
        raise QCompileError(
            Code.MODEL_INVALID,
            f"{path} has {status.st_size} bytes; an ONNX file can have at most 2 GB",
            hint="export the model with its weights as external data",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> QCompileError:
    return QCompileError(Code.MODEL_UNREADABLE, f"{path} cannot be read: {error.strerror}")


def _undecodable(path: Path, data: bytes) -> QCompileError:
    if _is_cut_off(data):
        return QCompileError(
            Code.MODEL_TRUNCATED,
            f"{path} ends in the middle of the model ({len(data)} bytes)",
            hint="fetch or export the file again",
        )
    return QCompileError(Code.NOT_A_MODEL, f"{path} is not an ONNX model")


def _is_cut_off(data: bytes) -> bool:
    """Whether the top-level fields are those of a model and the last one runs past the end.

    Walks the protobuf wire format (key = field number * 8 + wire type; type 0 is a varint, type 2
    a length and that many bytes): a model is fields 1 to 30 of these two types and begins with
    one of the small numbers, ``ir_version`` first in every known writer.
    """
    position, seen = 0, set[int]()
    while position < len(data):
        key, position = _varint(data, position)
        field, wire = key >> 3, key & 7
        if key >= 0 and (wire not in (0, 2) or not 1 <= field <= 30):
            return False
        length, position = _varint(data, position)
        if key < 0 or length < 0:
            return bool(seen)
        if wire == 2:
            position += length
            if position > len(data):
                return bool(seen) or field == GRAPH_FIELD
        seen.add(field)
    return False


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at ``position`` and the position behind it; -1 when the data end within it."""
    number = shift = 0
    while position < len(data):
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > 63:
            break
    return -1, position
