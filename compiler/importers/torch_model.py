"""PyTorch: ``module:function`` and exported programs become ONNX by torch's own exporter.

What the function may return:

- ``(module, example inputs)``: a tensor, a tuple of them, or a dict by the names of ``forward``;
- behind these, in any order: the names of the inputs (a sequence of str), and ``dynamic_shapes``
  as ``torch.export.export`` takes them;
- an ``ExportedProgram``, alone or followed by the names of its inputs.
"""

from pathlib import Path
from typing import Any, Final

from qcompile.compiler.data.callables import is_callable_spec
from qcompile.compiler.importers.child import run_child
from qcompile.compiler.importers.options import Converted, ImportOptions
from qcompile.compiler.importers.torch_files import is_pickle, is_program, why_untrusted
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note

CHILD: Final = "qcompile.compiler.importers.torch_export"
EXTRA: Final = "torch"


def fits_function(given: str) -> bool:
    """Whether a model is named as ``module:function``."""
    return is_callable_spec(given) and not Path(given).exists()


def fits_program(given: str) -> bool:
    """Whether a file is one of ``torch.export.save``, or calls itself one."""
    return Path(given).is_file() and is_program(Path(given))


def fits_pickle(given: str) -> bool:
    """Whether a file is one of ``torch.save`` or ``torch.jit.save``, or calls itself one."""
    return Path(given).is_file() and is_pickle(Path(given))


def convert_function(given: str, folder: Path, options: ImportOptions) -> Converted:
    """Call the user's function in a process of its own, and export what it returns.

    Raises:
        QCompileError: MODEL_NOT_FOUND when there is no such function; IMPORT_FAILED; MISSING_EXTRA.
    """
    return _convert({"kind": "function", "model": given}, (), folder, options)


def convert_program(given: str, folder: Path, options: ImportOptions) -> Converted:
    """Export a program that ``torch.export.save`` wrote.

    Raises:
        QCompileError: UNTRUSTED_MODEL when it could run code; IMPORT_FAILED; MISSING_EXTRA.
    """
    _insist_on_trust(Path(given), options)
    return _convert({"kind": "program", "model": given}, (Path(given),), folder, options)


def convert_pickle(given: str, folder: Path, options: ImportOptions) -> Converted:
    """Export a module that ``torch.save`` wrote; ``options.shapes`` say what it is fed.

    Raises:
        QCompileError: UNTRUSTED_MODEL, since a pickle can run code; IMPORT_FAILED; MISSING_EXTRA.
    """
    _insist_on_trust(Path(given), options)
    return _convert({"kind": "pickle", "model": given}, (Path(given),), folder, options)


def _insist_on_trust(path: Path, options: ImportOptions) -> None:
    why = why_untrusted(path)
    if why is not None and not options.trust:
        raise QCompileError(
            Code.UNTRUSTED_MODEL,
            f"{path} can run code of its own when it is loaded: {why}",
            hint="name the code that makes the model as module:function, save it again by "
            "torch.export.save, or say --trust-model",
        )


def _convert(
    request: dict[str, Any], files: tuple[Path, ...], folder: Path, options: ImportOptions
) -> Converted:
    onnx = folder / "model.onnx"
    shapes = {name: list(shape) for name, shape in options.shapes.items()}
    answer = run_child(CHILD, {**request, "onnx": str(onnx), "shapes": shapes}, folder, extra=EXTRA)
    notes = tuple(Note("info", text) for text in answer["notes"])
    return Converted(onnx, files + tuple(Path(path) for path in answer["files"]), notes)
