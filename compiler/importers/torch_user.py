"""Calls the user's function and makes sense of what it returns; runs beside torch, in the child."""

import site
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qcompile.compiler.data.callables import failed_line, load_callable
from qcompile.core.errors import Code, QCompileError

_RETURNS = (
    "return (module, example inputs), and behind them the names of the inputs or dynamic_shapes "
    "as torch.export takes them; or a torch.export.ExportedProgram"
)


@dataclass(frozen=True)
class Given:
    """A model and what it is called with."""

    module: Any
    """An ``nn.Module`` or an ``ExportedProgram``."""
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...] | None = None
    """Of the inputs of the ONNX model, in order; None leaves those of ``forward``."""
    dynamic_shapes: Any = None
    """As ``torch.export.export`` takes it; None when the user says nothing."""


def call_user(spec: str, folder: Path) -> Given:
    """Import ``module:function``, call the function and take its answer apart.

    Raises:
        QCompileError: MODEL_NOT_FOUND when there is no such function; IMPORT_FAILED when importing
            or calling it fails, or when it returns something else.
    """
    try:
        function = load_callable(spec, folder)
    except QCompileError as error:
        missing = error.code is Code.DATA_NOT_FOUND
        code = Code.MODEL_NOT_FOUND if missing else Code.IMPORT_FAILED
        raise QCompileError(code, error.message, hint=error.hint) from error
    sys.path.insert(0, str(folder.absolute()))  # what the function itself imports
    try:
        with torch.enable_grad():
            value = function()
    except Exception as error:
        raise QCompileError(
            Code.IMPORT_FAILED,
            f"{spec} raised {type(error).__name__}: {error}{failed_line(error)}",
            hint="it is called without arguments",
        ) from error
    return given_of(value, spec)


def given_of(value: Any, spec: str) -> Given:
    """What the user's function returned.

    Raises:
        QCompileError: IMPORT_FAILED saying what may be returned.
    """
    program = torch.export.ExportedProgram
    parts = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not parts or not isinstance(parts[0], torch.nn.Module | program):
        raise _bad(f"{spec} returned {_described(value)}")
    needed = 1 if isinstance(parts[0], program) else 2
    if len(parts) < needed:
        raise _bad(f"{spec} returned a module without example inputs")
    args, kwargs = _called(parts[1], spec) if needed == 2 else ((), {})
    names, shapes = _rest(parts[needed:], spec)
    return Given(parts[0], args, kwargs, names, shapes)


def _called(inputs: Any, spec: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, torch.Tensor):
        return (inputs,), {}
    if isinstance(inputs, Mapping) and all(isinstance(key, str) for key in inputs):
        return (), dict(inputs)
    if isinstance(inputs, tuple | list):
        return tuple(inputs), {}
    raise _bad(f"{spec} gave {_described(inputs)} as example inputs")


def _rest(parts: Sequence[Any], spec: str) -> tuple[tuple[str, ...] | None, Any]:
    names: tuple[str, ...] | None = None
    shapes: Any = None
    for part in parts:
        if isinstance(part, list | tuple) and part and all(isinstance(n, str) for n in part):
            names = tuple(part)
        elif isinstance(part, Mapping | list | tuple):
            shapes = part
        elif part is not None:
            raise _bad(f"{spec} gave {_described(part)} behind the example inputs")
    return names, shapes


def _described(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "(" + ", ".join(type(item).__name__ for item in value[:5]) + ")"
    return type(value).__name__


def _bad(what: str) -> QCompileError:
    return QCompileError(Code.IMPORT_FAILED, what, hint=_RETURNS)


def user_files(before: set[str]) -> list[str]:
    """The files of the modules that were imported since, without those of installed packages."""
    installed = {Path(p).resolve() for p in (*site.getsitepackages(), site.getusersitepackages())}
    installed |= {Path(path).resolve() for path in sysconfig.get_paths().values()}
    own = Path(__file__).resolve().parents[2]
    found: set[str] = set()
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is None or not Path(file).is_file():
            continue
        path = Path(file).resolve()
        if not any(path.is_relative_to(folder) for folder in (*installed, own)):
            found.add(str(path))
    return sorted(found)
