"""The table of what became of the public suites, at the end of the run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

_KEY = tuple[str, str, str]
COUNTS = pytest.StashKey[dict[_KEY, Counter[str]]]()
FIRST = ("integer", "float")
"""Kinds of outcomes that come first in a row."""


@dataclass(frozen=True)
class Tally:
    """Counts outcomes by suite, runtime and scheme."""

    counts: dict[_KEY, Counter[str]]

    def add(self, suite: str, runtime: str, scheme: str, kinds: Sequence[str]) -> None:
        """Count some more outcomes by their kind; ``known`` is one that stands in known.py."""
        row = self.counts.setdefault((suite, runtime, scheme), Counter())
        row.update(kinds)


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    return Tally(pytestconfig.stash.setdefault(COUNTS, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = terminalreporter.config.stash.get(COUNTS, {})
    if not counts:
        return
    terminalreporter.section("public suites: integer, built with nothing integer, refused by code")
    for (suite, runtime, scheme), row in sorted(counts.items()):
        kinds = [*FIRST, *sorted(set(row) - set(FIRST))]
        told = ", ".join(f"{row[kind]} {kind}" for kind in kinds if row[kind])
        terminalreporter.write_line(f"{suite:18} {runtime:12} {scheme:6} {row.total():4}: {told}")
