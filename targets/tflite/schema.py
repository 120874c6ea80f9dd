"""The published schema bindings of TFLite, without the runtime they are packaged with."""

import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any

from qcompile.core.errors import Code, QCompileError

_PACKAGE = "ai_edge_litert"
_MODULE = "schema_py_generated"


@functools.cache
def schema() -> Any:
    """The generated module: classes, their object API (``ModelT``...), and enumerations.

    It is one file that needs flatbuffers and numpy only; importing its package would load the
    runtime's libraries, so the file is loaded by its path.

    Raises:
        QCompileError: MISSING_EXTRA when the package is not installed.
    """
    package = importlib.util.find_spec(_PACKAGE)
    locations = list(package.submodule_search_locations or ()) if package is not None else []
    file = Path(locations[0]) / f"{_MODULE}.py" if locations else None
    if file is None or not file.is_file():
        raise QCompileError(
            Code.MISSING_EXTRA,
            "writing TFLite models needs the schema bindings of ai-edge-litert",
            hint="pip install 'qcompile-edge[tflite]'",
        )
    name = f"qcompile_{_MODULE}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # the object API looks itself up there
    spec.loader.exec_module(module)
    return module


def builtin_code(name: str) -> int:
    """The number of a builtin operator, as ``CONV_2D``."""
    return int(getattr(schema().BuiltinOperator, name))


@functools.cache
def builtin_names() -> dict[int, str]:
    """Number of a builtin operator -> its name."""
    return _names(schema().BuiltinOperator)


@functools.cache
def type_names() -> dict[int, str]:
    """Number of a tensor type -> its name in lower case, as ``int8`` or ``float32``."""
    return {number: name.lower() for number, name in _names(schema().TensorType).items()}


def tensor_type(dtype: str) -> int:
    """The number of a tensor type by numpy's name, as ``int8``."""
    return int(getattr(schema().TensorType, dtype.upper()))


def _names(enumeration: Any) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if isinstance(v, int) and k.isupper()}
