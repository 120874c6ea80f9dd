"""What README, CONTRIBUTING and the example point at exists."""

import re
from pathlib import Path

import pytest

from qcompile.targets.catalog import target_names
from tests.house.imports import ROOT

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/digits/README.md")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    document = ROOT / name
    links = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_readme_lists_every_target() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in target_names() if f"| `{name}` |" not in text] == []


def test_make_knows_the_commands_that_are_named() -> None:
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
        assert named <= rules, f"{name}: {named - rules}"


def test_example_files_stay_small() -> None:
    large = [
        p for p in Path(ROOT / "examples").rglob("*") if p.is_file() and p.stat().st_size > 300_000
    ]
    assert large == []
