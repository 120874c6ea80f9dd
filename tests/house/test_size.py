"""A file holds one idea: none outgrows 450 lines, every pass has a test file that mirrors it."""

import ast
from pathlib import Path

import pytest

from tests.house.imports import ROOMS, ROOT, modules

MOST_LINES = 450


def python_files() -> list[Path]:
    folders = (*ROOMS.values(), ROOT / "tests", ROOT / "examples")
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def test_no_file_is_too_long() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in python_files()}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES} == {}


def test_every_module_says_its_idea() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in python_files()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def pass_classes(path: Path) -> list[str]:
    """Names of the onnx_ir passes that a file defines."""
    return [
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(b).endswith(("InPlacePass", "FunctionalPass")) for b in node.bases)
    ]


def pass_files() -> list[Path]:
    return [path for path in sorted(ROOMS["passes"].rglob("*.py")) if pass_classes(path)]


@pytest.mark.parametrize("path", pass_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_pass_has_a_test_file(path: Path) -> None:
    mirror = ROOT / "tests" / path.relative_to(ROOT).with_name(f"test_{path.name}")
    assert mirror.is_file(), f"{path.relative_to(ROOT)} needs {mirror.relative_to(ROOT)}"


@pytest.mark.parametrize("path", pass_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_one_pass_a_file(path: Path) -> None:
    assert len(pass_classes(path)) == 1


def test_every_folder_of_tests_is_a_package() -> None:
    """Files of one name in two folders clash unless each folder has an __init__.py."""
    folders = {p.parent for p in (ROOT / "tests").rglob("*.py")}
    bare = [str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").is_file()]
    assert bare == []


def test_every_folder_of_the_package_is_a_package() -> None:
    folders = {path.parent for path in modules().values()}
    assert [str(f) for f in folders if not (f / "__init__.py").is_file()] == []


def test_the_rooms_are_linked() -> None:
    for room in ("compiler", "passes", "targets"):
        link = ROOT / "qcompile" / room
        assert link.is_symlink(), f"qcompile/{room} must be a link (git: core.symlinks=true)"
        assert link.resolve() == ROOT / room
