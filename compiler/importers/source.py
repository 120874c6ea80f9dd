"""A model as the user names it becomes an ONNX file, whatever its format; all else reads that."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from qcompile.compiler.importers.formats import FORMATS
from qcompile.compiler.importers.onnx import Imported, load_onnx
from qcompile.compiler.importers.options import Converted, ImportOptions


@dataclass(frozen=True)
class Source:
    """A model that can be read."""

    name: str
    """What reports call it: the file's name without folders, or what was given."""
    path: Path
    """The ONNX file that it is, or became."""
    format: str
    """``onnx``, or the name of the row of ``formats.FORMATS`` that converted it."""
    converted: Converted | None = None
    """What the conversion read and has to say; None for a file that is ONNX."""


@contextmanager
def open_source(given: str | Path, options: ImportOptions | None = None) -> Iterator[Source]:
    """Make a model readable; what was converted for it is removed at the end of the block.

    Args:
        given: a path, or what else the importer of a format takes (``module:function``).
        options: of the importers.

    Raises:
        QCompileError: of the importer; a file of no known format is taken for ONNX, whose reader
            says what it is.
    """
    text = str(given)
    found = next((row for row in FORMATS if row.fits(text)), None)
    if found is None:
        yield Source(Path(text).name, Path(text), "onnx")
        return
    with tempfile.TemporaryDirectory(prefix="qcompile-") as folder:
        made = found.convert(text, Path(folder), options or ImportOptions())
        name = Path(text).name if Path(text).exists() else text
        yield Source(name, made.onnx, found.name, made)


def load_source(
    source: Source,
    shapes: Mapping[str, Sequence[int]] | None = None,
    *,
    static: bool = False,
    allow_integer: bool = False,
) -> Imported:
    """Read a model as ``importers.onnx.load_onnx`` does, which says what may be wrong with it."""
    imported = load_onnx(source.path, shapes, static=static, allow_integer=allow_integer)
    made = source.converted
    if made is None:
        return imported
    return replace(
        imported,
        notes=(*made.notes, *imported.notes),
        files=made.files,
        converted=imported.files,
        name=source.name,
    )
