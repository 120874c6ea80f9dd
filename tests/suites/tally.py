"""The table of what became of the public suites, whichever process built them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


def tally_of(config: pytest.Config) -> Tally:
    """That of this process."""
    return Tally(config.stash.setdefault(COUNTS, {}))


class TallyTable:
    """Hooks: workers of pytest-xdist hand their counts on, the process that ends prints all."""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            counts = tally_of(session.config).counts
            output["tally"] = [(*key, list(row.elements())) for key, row in counts.items()]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for row in getattr(node, "workeroutput", {}).get("tally", []):
            tally_of(node.config).add(*row)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = tally_of(terminalreporter.config).counts
        if not counts:
            return
        terminalreporter.section(
            "public suites: integer, built with nothing integer, refused by code"
        )
        for (suite, runtime, scheme), row in sorted(counts.items()):
            kinds = [*FIRST, *sorted(set(row) - set(FIRST))]
            told = ", ".join(f"{row[kind]} {kind}" for kind in kinds if row[kind])
            terminalreporter.write_line(
                f"{suite:18} {runtime:12} {scheme:6} {row.total():4}: {told}"
            )
