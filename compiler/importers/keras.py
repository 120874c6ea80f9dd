"""Keras models (.keras, HDF5) and SavedModel folders become ONNX files, in a process of their own.

What the files may name is looked at before a framework sees them: ``keras_archive``,
``keras_hdf5``, ``keras_saved_model``.
"""

from pathlib import Path
from typing import Any, Final

from qcompile.compiler.importers.child import run_child
from qcompile.compiler.importers.keras_archive import check_archive
from qcompile.compiler.importers.options import Converted, ImportOptions
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note

CHILD: Final = "qcompile.compiler.importers.keras_child"
EXTRA: Final = "tensorflow"
HDF5: Final = b"\x89HDF\r\n\x1a\n"
HDF5_SUFFIXES: Final = (".h5", ".hdf5")
GRAPHS: Final = ("saved_model.pb", "saved_model.pbtxt")


def fits_archive(given: str) -> bool:
    """Whether it is a file named .keras that is not HDF5."""
    path = Path(given)
    return path.suffix.lower() == ".keras" and path.is_file() and not fits_hdf5(given)


def fits_hdf5(given: str) -> bool:
    """Whether a file begins as HDF5 does, or is named so."""
    path = Path(given)
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            starts = file.read(len(HDF5)) == HDF5
    except OSError:
        return False
    return starts or path.suffix.lower() in HDF5_SUFFIXES


def fits_saved_model(given: str) -> bool:
    """Whether it is the folder of a SavedModel, or the file of its graph."""
    path = Path(given)
    return path.name in GRAPHS or any((path / name).is_file() for name in GRAPHS)


def convert_archive(given: str, folder: Path, options: ImportOptions) -> Converted:
    """Convert a .keras archive.

    Raises:
        QCompileError: of ``keras_archive.check_archive`` and of the child.
    """
    path = Path(given)
    check_archive(path, trust=options.trust)
    return _convert("keras", path, (path,), folder, options)


def convert_hdf5(given: str, folder: Path, options: ImportOptions) -> Converted:
    """Convert a whole model in HDF5, of Keras 2 or 3.

    Raises:
        QCompileError: of the child.
    """
    path = Path(given)
    return _convert("hdf5", path, (path,), folder, options)


def convert_saved_model(given: str, folder: Path, options: ImportOptions) -> Converted:
    """Convert one signature of a SavedModel.

    Raises:
        QCompileError: MODEL_NOT_FOUND, NOT_A_MODEL, and of the child.
    """
    path = Path(given)
    home = path.parent if path.name in GRAPHS else path
    if not any((home / name).is_file() for name in GRAPHS):
        raise QCompileError(Code.MODEL_NOT_FOUND, f"{path} does not exist")
    if not (home / GRAPHS[0]).is_file():
        raise QCompileError(
            Code.NOT_A_MODEL,
            f"{home / GRAPHS[1]} is a SavedModel in text",
            hint=f"save it again, as {GRAPHS[0]}",
        )
    files = tuple(sorted(found for found in home.rglob("*") if found.is_file()))
    return _convert("saved_model", home, files, folder, options)


def _convert(
    kind: str, path: Path, files: tuple[Path, ...], folder: Path, options: ImportOptions
) -> Converted:
    if options.signature is not None and kind != "saved_model":
        raise QCompileError(
            Code.BAD_OPTION,
            f"{path.name} has no signatures to choose from",
            hint="leave --signature away",
        )
    request: dict[str, Any] = {
        "kind": kind,
        "path": str(path.resolve()),
        "folder": str(folder.resolve()),
        "trust": options.trust,
        "signature": options.signature,
    }
    done = run_child(CHILD, request, folder, extra=EXTRA)
    return Converted(Path(done["onnx"]), files, _notes(path, done["signature"]))


def _notes(path: Path, signature: str | None) -> tuple[Note, ...]:
    what = "Keras model" if signature is None else f"SavedModel, signature {signature}"
    return (Note("info", f"{path.name} was converted from a {what}"),)
