"""The formats of encodings: one table to write them, and how a file that is read is told apart."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from qcompile.compiler.encodings import aimet, overrides
from qcompile.compiler.encodings.record import Encoding, Encodings, no_twins
from qcompile.core.errors import Code, QCompileError

FORMATS: Final[Mapping[str, Callable[[Sequence[Encoding]], dict[str, Any]]]] = {
    "aimet": aimet.document_1_0_0,
    "aimet-0.6.1": aimet.document_0_6_1,
    "aimet-1.0.0": aimet.document_1_0_0,
    "aimet-2.0.0": aimet.document_2_0_0,
    "ort": overrides.document,
}
"""Name on the command line -> what makes the document."""


def read_encodings(path: Path) -> Encodings:
    """Read a file of AIMET's encodings or ONNX Runtime's overrides; its keys say which it is.

    Raises:
        QCompileError: BAD_ENCODINGS naming the file, the tensor and what is wrong.
    """
    try:
        found = _read(json.loads(path.read_bytes(), object_pairs_hook=no_twins))
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}"
        raise QCompileError(Code.BAD_ENCODINGS, what) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise QCompileError(
            Code.BAD_ENCODINGS,
            f"{path}: {error}",
            hint="known: AIMET's encodings 0.6.1, 1.0.0 and 2.0.0 (.encodings, .json), "
            "TensorQuantOverrides of ONNX Runtime as JSON",
        ) from error
    if not found.by_name:
        raise QCompileError(Code.BAD_ENCODINGS, f"{path} gives no tensor an integer grid")
    return found


def _read(document: Any) -> Encodings:
    if not isinstance(document, Mapping):
        raise TypeError("it is no table")
    is_aimet = isinstance(document.get("version"), str) or set(aimet.SECTIONS) & set(document)
    return aimet.read(document) if is_aimet else overrides.read(document)
