"""Arrows between rooms: compiler -> {passes, targets} -> core, never back; modules in no circle."""

from pathlib import Path

import pytest

from tests.house.imports import ROOMS, Import, all_imports, imports_of, modules, room_of

ALLOWED = {
    "compiler": {"compiler", "passes", "targets", "core"},
    "passes": {"passes", "core"},
    "targets": {"targets", "core"},
    "core": {"core"},
}


def against_the_arrows(imports: list[Import]) -> list[str]:
    found = []
    for i in imports:
        here, there = room_of(i.module), room_of(i.target)
        if here and there and there not in ALLOWED[here]:
            found.append(str(i))
        # A room that imports the front door imports, at first use, all that lies behind it.
        if here and here != "compiler" and i.target == "qcompile":
            found.append(str(i))
    return found


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Every group of modules that import each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1 or node in edges.get(node, ()):
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def test_every_room_has_modules() -> None:
    rooms = {room_of(name) for name in modules()}
    assert set(ROOMS) <= rooms


def test_arrows_point_one_way() -> None:
    assert against_the_arrows(all_imports()) == []


def test_no_bare_imports() -> None:
    banned = {"compiler", "passes", "targets"}
    bare = [str(i) for i in all_imports() if i.target.split(".")[0] in banned]
    assert bare == []


def test_no_circles_between_modules() -> None:
    known = modules()
    edges: dict[str, set[str]] = {name: set() for name in known}
    for i in all_imports():
        if i.target in known and not i.typing_only:
            edges[i.module].add(i.target)
    assert circles(edges) == []


def test_no_star_imports() -> None:
    starred = [
        f"{path}:{n}"
        for path in modules().values()
        for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.strip().startswith("from ") and line.rstrip().endswith("import *")
    ]
    assert starred == []


@pytest.mark.parametrize(
    ("source", "complaints"),
    [
        ("from qcompile.passes.prepare import fold_bn", 1),
        ("from qcompile.targets.onnxruntime.executor import Executor", 1),
        ("import qcompile.compiler.api", 1),
        ("from qcompile import build", 1),
        ("def f():\n    from qcompile.passes import plan", 1),
        ("from qcompile.core.errors import Code", 0),
        ("from .errors import Code", 0),
        ("import numpy", 0),
    ],
)
def test_a_wrong_arrow_is_seen(tmp_path: Path, source: str, complaints: int) -> None:
    path = ROOMS["core"] / "graph.py"
    text = tmp_path / "graph.py"
    text.write_text(source)
    read = [
        Import(i.module, i.target, path, i.line, i.typing_only, i.lazy)
        for i in imports_of("qcompile.core.graph", text)
    ]
    assert len(against_the_arrows(read)) == complaints


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
