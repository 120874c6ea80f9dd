"""Reads which modules of the package import which, from the source alone."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {
    "core": ROOT / "qcompile" / "core",
    "compiler": ROOT / "compiler",
    "passes": ROOT / "passes",
    "targets": ROOT / "targets",
}
"""Room -> its folder. Its modules are imported as ``qcompile.ROOM.…``."""


@dataclass(frozen=True)
class Import:
    """One imported name: ``module`` in file ``path`` imports ``target`` on ``line``."""

    module: str
    target: str
    path: Path
    line: int
    typing_only: bool
    """Stands under ``if TYPE_CHECKING``."""
    lazy: bool
    """Stands in a function, so it happens at a call and not at import."""

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.target}"


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package by its import path; not to be changed."""
    found = {"qcompile": ROOT / "qcompile" / "__init__.py"}
    for room, folder in ROOMS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join(("qcompile", room, *parts))] = path
    return found


def room_of(module: str) -> str | None:
    """The room a module belongs to; None for qcompile itself and everything foreign."""
    parts = module.split(".")
    return parts[1] if parts[0] == "qcompile" and len(parts) > 1 and parts[1] in ROOMS else None


@functools.cache
def all_imports() -> list[Import]:
    """The imports of every module of the package; not to be changed."""
    return [i for module, path in modules().items() for i in imports_of(module, path)]


def imports_of(module: str, path: Path) -> Iterator[Import]:
    """The imports of one file; ``from a import b`` counts as ``a.b`` where that is a module."""
    known = modules()
    for node, typing_only, lazy in _walk(ast.parse(path.read_text(encoding="utf-8")), False, False):
        for target in _targets(node, module, path, known):
            yield Import(module, target, path, node.lineno, typing_only, lazy)


def _walk(
    node: ast.AST, typing_only: bool, lazy: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, typing_only, lazy
        guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _walk(child, typing_only or guarded, lazy or function)


def _targets(
    node: ast.Import | ast.ImportFrom, module: str, path: Path, known: dict[str, Path]
) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        package = package[: len(package) - node.level + 1]
        base = ".".join((*package, *filter(None, [node.module])))
    named = (f"{base}.{alias.name}" for alias in node.names)
    return [name if name in known else base for name in named]
