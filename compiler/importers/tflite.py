"""A .tflite file, float or quantized, becomes an ONNX file by our own reader; nothing runs it."""

from pathlib import Path
from typing import Final

import onnx_ir as ir

from qcompile.compiler.importers.options import Converted, ImportOptions
from qcompile.compiler.importers.reading import read_model_file
from qcompile.core.notes import Note
from qcompile.targets.tflite.reader.read import read_model
from qcompile.targets.tflite.reading import IDENTIFIER

FORMAT: Final = "tflite"
_AT: Final = slice(4, 8)
_SUFFIX: Final = ".tflite"
_LARGE: Final = 1 << 30
"""Bytes of a file from which its constants are written beside the ONNX file, which holds 2 GB."""


def is_tflite(given: str) -> bool:
    """Whether a file has TFLite's identifier, or its suffix: then the reader says what is wrong."""
    path = Path(given)
    if not path.is_file():
        return False
    if path.suffix.lower() == _SUFFIX:
        return True
    try:
        with path.open("rb") as file:
            return file.read(_AT.stop)[_AT] == IDENTIFIER
    except OSError:
        return False


def convert_tflite(given: str, folder: Path, options: ImportOptions) -> Converted:
    """Write the ONNX form of a .tflite file into a folder.

    Raises:
        QCompileError: MODEL_NOT_FOUND, MODEL_UNREADABLE; of ``reader.read_model``; MISSING_EXTRA
            without the schema's bindings.
    """
    path = Path(given)
    data = read_model_file(path)
    read = read_model(data, options.signature, options.shapes)
    onnx = folder / "model.onnx"
    ir.save(read.model, onnx, external_data="model.data" if len(data) > _LARGE else None)
    return Converted(onnx, (path,), (_note(path, read.quantized), *read.notes))


def _note(path: Path, quantized: int) -> Note:
    if not quantized:
        return Note("info", f"{path.name} is a TFLite model of floats")
    return Note("info", f"{path.name} is a TFLite model with scales for {quantized} tensors")
