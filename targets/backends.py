"""Which back end serves which runtime; a back end is loaded when it is asked for."""

from pathlib import Path

from qcompile.core.backend import Backend
from qcompile.core.errors import Code, QCompileError


def backend_of(runtime: str) -> Backend:
    """The back end of a runtime, by the name target files use.

    Raises:
        QCompileError: BAD_TARGET_FILE for a runtime that is not known.
    """
    match runtime:
        case "onnxruntime":
            from qcompile.targets.onnxruntime.backend import OrtBackend

            return OrtBackend()
        case "tflite":
            from qcompile.targets.tflite.backend import TfliteBackend

            return TfliteBackend()
        case "qnn":
            from qcompile.targets.qnn.backend import QnnBackend

            return QnnBackend()
        case _:
            raise QCompileError(
                Code.BAD_TARGET_FILE,
                f"runtime {runtime!r} is not known",
                hint="known: onnxruntime, qnn, tflite",
            )


def backend_for_file(path: Path) -> Backend:
    """The back end that reads an artefact, by the ending of its name; ONNX when in doubt."""
    return backend_of("tflite" if path.suffix == ".tflite" else "onnxruntime")
