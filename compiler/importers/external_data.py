"""Finds the files in which a model keeps its large tensors, and refuses those it may not read.

The policy, the same on every path into qcompile:

1. A location is relative and is looked up beside the model file, under the path the user gave.
2. After all symbolic links are followed, the file must lie in the folder that holds the model, or
   in the folder that holds the file the model itself links to. The second is what a Hugging Face
   cache needs: ``snapshots/REV/model.onnx`` and ``model.onnx_data`` are both links to files in
   ``blobs/``; and Bazel's sandboxes and runfiles, whose links lead, over any number of steps, to
   the package's folder. A link to anywhere else is refused: a model must not make us read
   ``/etc/shadow``. So are data in another folder than the model's, as where one of the two is
   generated, or where a store has a folder for each first byte of a digest. The folders that a
   chain of links only passes through do not count.
3. A file with several hard links is refused, as ``onnx`` does: a hard link passes rule 2 whatever
   it leads to.
4. The file must be long enough for every tensor that is said to lie in it.

ONNX Runtime (1.32), which runs the float model from the same path, allows the same two folders:
what is accepted here can also be compared with.

Tensors are mapped when they are first looked at, never copied into the model.
"""

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx_ir as ir

from qcompile.core.errors import Code, QCompileError


class ExternalFiles:
    """The data files of one model, each looked up and judged once."""

    def __init__(self, model_path: Path) -> None:
        self._model_path = model_path
        self._allowed = (model_path.parent.resolve(), model_path.resolve().parent)
        self._found: dict[str, tuple[Path, int]] = {}

    def settle(self, tensor: ir.ExternalTensor) -> ir.ExternalTensor:
        """The same tensor, pointing at the real file with its offset and length spelled out.

        Raises:
            QCompileError: EXTERNAL_DATA naming the tensor and the file.
        """
        location = os.fspath(tensor.location)
        if location not in self._found:
            self._found[location] = self._find(location, tensor.name)
        file, size = self._found[location]
        offset = tensor.offset or 0
        length = tensor.nbytes if tensor.length is None else tensor.length
        if length != tensor.nbytes:
            raise _refused(
                f"tensor {tensor.name} is said to have {length} bytes in {location}, "
                f"its shape and type need {tensor.nbytes}"
            )
        if offset < 0 or offset + length > size:
            raise _refused(
                f"tensor {tensor.name} lies at bytes {offset} to {offset + length} of {location}, "
                f"which has only {size}: the file is truncated or belongs to another model",
                hint="fetch or export the model again, with all its files",
            )
        return ir.ExternalTensor(
            file.name,
            offset,
            length,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=tensor.name,
            base_dir=file.parent,
        )

    def _find(self, location: str, tensor: str) -> tuple[Path, int]:
        """The real data file and its size in bytes."""
        if not location or _is_absolute(location):
            raise _refused(
                f"tensor {tensor} lies in {location!r}; external data must be named relative to "
                "the model file"
            )
        try:
            real = (self._model_path.parent / location).resolve(strict=True)
            status = real.stat()
        except FileNotFoundError as error:
            raise _refused(
                f"tensor {tensor} lies in {location}, which is not beside {self._model_path}",
                hint="copy the data file beside the model, under the name the model knows",
            ) from error
        except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links, Python < 3.13
            raise _refused(f"{location}, which holds tensor {tensor}, cannot be read") from error
        if not any(real.is_relative_to(folder) for folder in self._allowed):
            raise _refused(
                f"tensor {tensor} lies in {location}, which leads out of the model's folder "
                f"to {real}",
                hint="copy the data file beside the model, or both out of the tree of links",
            )
        if not stat.S_ISREG(status.st_mode) or not os.access(real, os.R_OK):
            raise _refused(f"{location}, which holds tensor {tensor}, is not a readable file")
        if status.st_nlink > 1:
            raise _refused(
                f"{location}, which holds tensor {tensor}, has {status.st_nlink} hard links",
                hint="copy the data file, so that it has one name only",
            )
        return real, status.st_size


def _is_absolute(location: str) -> bool:
    return PurePosixPath(location).is_absolute() or bool(PureWindowsPath(location).anchor)


def _refused(message: str, *, hint: str | None = None) -> QCompileError:
    return QCompileError(Code.EXTERNAL_DATA, message, hint=hint)
