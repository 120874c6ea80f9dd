"""qcompile: an edge-deployment quantization compiler.

A float model goes in; an integer model that is proven to be integer, proven to be close to the
float one, and measured on the device it is for comes out. The public names below are loaded on
first use, so that ``import qcompile`` costs nothing.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcompile.compiler.api import build, build_for, check, diff, export, inspect
    from qcompile.core.errors import QCompileError
    from qcompile.targets.catalog import load_target, target_names

__version__ = "0.1.0"

# ONNX Runtime 1.32 for Linux writes an identity and a database into the user's folders when it is
# imported, to report its use to its maker. Nothing here sends anything anywhere.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "build": "qcompile.compiler.api",
    "build_for": "qcompile.compiler.api",
    "check": "qcompile.compiler.api",
    "diff": "qcompile.compiler.api",
    "export": "qcompile.compiler.api",
    "inspect": "qcompile.compiler.api",
    "QCompileError": "qcompile.core.errors",
    "load_target": "qcompile.targets.catalog",
    "target_names": "qcompile.targets.catalog",
}

__all__ = [
    "QCompileError",
    "build",
    "build_for",
    "check",
    "diff",
    "export",
    "inspect",
    "load_target",
    "target_names",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
