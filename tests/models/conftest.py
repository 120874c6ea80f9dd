"""The float models and data of MANIFEST.md as fixtures, and the table of figures at the end."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.models import minilm
from tests.models.building import Built, build
from tests.models.running import figure

ROWS = pytest.StashKey[list[tuple[str, ...]]]()
HEAD = ("model", "what", "float", "artefact", "gate")


@dataclass(frozen=True)
class Figures:
    """Collects what was measured, for the table that ends the run."""

    rows: list[tuple[str, ...]]

    def add(
        self, model: str, what: str, reference: object, artefact: object, gate: str = ""
    ) -> None:
        """One line: a metric of the float model and of the artefact, and what is asked of it."""
        self.rows.append((model, what, figure(reference), figure(artefact), gate))


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    return Figures(pytestconfig.stash.setdefault(ROWS, []))


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    """``build`` with a fresh folder for each artefact."""

    def make(model: Path, data: Path | None, **options: object) -> Built:
        return build(model, data, tmp_path_factory.mktemp(model.stem), **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def minilm_dir(models_dir: Path) -> Path:
    """all-MiniLM-L6-v2 as model.onnx, with tokenized calibration and evaluation batches."""
    return minilm.fetch(models_dir)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = terminalreporter.config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("figures on the real models")
    widths = [max(len(row[i]) for row in (HEAD, *rows)) for i in range(len(HEAD))]
    for row in (HEAD, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line(line.rstrip())
