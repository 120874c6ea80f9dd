"""The formats that are not ONNX; one row each, the importer loaded when a model needs it."""

from typing import Final

from qcompile.compiler.importers.options import Format

FORMATS: Final[tuple[Format, ...]] = ()
"""The first row that fits converts a model."""
