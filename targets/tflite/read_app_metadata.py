"""Reads TFLite Metadata, ours or another tool's, back into what an app must know."""

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, Final

import flatbuffers
from flatbuffers import number_types
from flatbuffers.table import Table

from qcompile.core.app_info import AppInfo, AppInput
from qcompile.targets.tflite.app_metadata import IDENTIFIER, METADATA_KEY

_COLORS: Final = {1: "rgb", 2: "gray"}
_IMAGE_PROPERTIES: Final = 2
_NORMALIZATION_OPTIONS: Final = 1
_TENSOR_AXIS_LABELS: Final = 2


def read_app_metadata(model: bytes, metadata: Mapping[str, bytes]) -> AppInfo | None:
    """What a TFLite file tells an app.

    Args:
        model: the file, with the zip behind it if there is one.
        metadata: the named blocks of the model.

    Returns:
        None for a file that tells nothing, or nothing that can be read.
    """
    block = metadata.get(METADATA_KEY, b"")
    if block[4:8] != IDENTIFIER:
        return None
    try:
        return _model(_root(block), _texts(model))
    except (struct.error, IndexError, ValueError, TypeError, UnicodeDecodeError):
        return None  # offsets that lead nowhere


def _model(model: Table, texts: Mapping[str, str]) -> AppInfo | None:
    graphs = _tables(model, 3)
    if not graphs:
        return None
    inputs = {}
    for tensor in _tables(graphs[0], 2):
        made = _input(tensor)
        if made is not None:
            inputs[_text(tensor, 0)] = made
    names = {}
    for tensor in _tables(graphs[0], 3):
        for file in _tables(tensor, 6):
            text = texts.get(_text(file, 0))
            if _number(file, 2, number_types.Int8Flags) == _TENSOR_AXIS_LABELS and text is not None:
                names[_text(tensor, 0)] = _lines(text)
    return AppInfo(inputs, names) if inputs or names else None


def _input(tensor: Table) -> AppInput | None:
    for unit in _tables(tensor, 4):
        options = _table(unit, 1)
        kind = _number(unit, 0, number_types.Uint8Flags)
        if kind == _NORMALIZATION_OPTIONS and options is not None:
            mean, std = _floats(options, 0), _floats(options, 1)
            return AppInput(mean or (0.0,), std or (1.0,), _color(tensor))
    return None


def _color(tensor: Table) -> str:
    content = _table(tensor, 3)
    if content is None or _number(content, 0, number_types.Uint8Flags) != _IMAGE_PROPERTIES:
        return ""
    properties = _table(content, 1)
    color = 0 if properties is None else _number(properties, 0, number_types.Int8Flags)
    # The schema has no BGR; what is written of such an input says so in words.
    return _COLORS.get(color, "bgr" if _text(tensor, 1).startswith("bgr ") else "")


def _texts(model: bytes) -> dict[str, str]:
    """The text files behind a model."""
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            return {name: archive.read(name).decode() for name in archive.namelist()}
    except (zipfile.BadZipFile, UnicodeDecodeError):
        return {}


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))


# --- the parts of a flatbuffer ---------------------------------------------------------------


def _root(block: bytes) -> Table:
    return Table(block, flatbuffers.encode.Get(number_types.UOffsetTFlags.packer_type, block, 0))


def _at(table: Table, slot: int) -> int:
    """Where a field stands; 0 when it is left out."""
    offset = int(table.Offset(4 + 2 * slot))
    return offset + table.Pos if offset else 0


def _text(table: Table, slot: int) -> str:
    at = _at(table, slot)
    return table.String(at).decode() if at else ""


def _number(table: Table, slot: int, flags: Any) -> int:
    at = _at(table, slot)
    return int(table.Get(flags, at)) if at else 0


def _table(table: Table, slot: int) -> Table | None:
    at = _at(table, slot)
    return Table(table.Bytes, table.Indirect(at)) if at else None


def _tables(table: Table, slot: int) -> list[Table]:
    at = _at(table, slot)
    if not at:
        return []
    start, count = table.Vector(at - table.Pos), table.VectorLen(at - table.Pos)
    return [Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(count)]


def _floats(table: Table, slot: int) -> tuple[float, ...]:
    at = _at(table, slot)
    if not at:
        return ()
    vector = table.GetVectorAsNumpy(number_types.Float32Flags, table.Offset(4 + 2 * slot))
    return tuple(float(x) for x in vector)
