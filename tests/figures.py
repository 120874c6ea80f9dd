"""The table of figures that ends a run on real models, whichever process measured them."""

from dataclasses import dataclass
from typing import Any

import pytest

ROWS = pytest.StashKey[list[tuple[str, ...]]]()
HEAD = ("model", "what", "float", "artefact", "gate")


def figure(value: object) -> str:
    """A number as it stands in the table."""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Figures:
    """Collects what was measured."""

    rows: list[tuple[str, ...]]

    def add(
        self, model: str, what: str, reference: object, artefact: object, gate: str = ""
    ) -> None:
        """One line: a metric of the float model and of the artefact, and what is asked of it."""
        self.rows.append((model, what, figure(reference), figure(artefact), gate))


def figures_of(config: pytest.Config) -> Figures:
    """Those of this process."""
    return Figures(config.stash.setdefault(ROWS, []))


class FiguresTable:
    """Hooks: workers of pytest-xdist hand their figures on, the process that ends prints all."""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["figures"] = figures_of(session.config).rows

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        rows = getattr(node, "workeroutput", {}).get("figures", [])
        figures_of(node.config).rows.extend(tuple(row) for row in rows)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        rows = figures_of(terminalreporter.config).rows
        if not rows:
            return
        terminalreporter.section("figures on the real models")
        widths = [max(len(row[i]) for row in (HEAD, *rows)) for i in range(len(HEAD))]
        for row in (HEAD, *rows):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            terminalreporter.write_line(line.rstrip())
