"""How the pipeline says where it is: stages with a name, a size and steps.

The pipeline knows this protocol only; a terminal's bar, a log or a notebook is behind it.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from qcompile.compiler.report.model import Step


class Counter(Protocol):
    """Counts what a stage has done so far."""

    def advance(self, amount: int = 1) -> None:
        """Say that ``amount`` more of the stage's total is done; may be called by any thread."""


class Progress(Protocol):
    """Is told which stage runs."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Counter]:
        """Open a stage; it ends with the context.

        Args:
            name: what is done, as ``calibrate``.
            total: how many steps it will take; None when that is not known.
        """


class SilentCounter:
    """Counts nothing."""

    def advance(self, amount: int = 1) -> None:
        """Do nothing."""


class Silent:
    """Says nothing to anyone."""

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Counter]:
        """Open a stage that nobody sees."""
        yield SilentCounter()


@dataclass
class Timed:
    """Passes everything on, and keeps the seconds of each stage for the report.

    A stage inside another one is passed on but not listed: the seconds listed add up.
    """

    inner: Progress = field(default_factory=Silent)
    steps: list[Step] = field(default_factory=list)
    _depth: int = 0

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Counter]:
        """Open a stage and time it; a stage that fails is listed as well."""
        start = time.perf_counter()
        self._depth += 1
        try:
            with self.inner.stage(name, total) as counter:
                yield counter
        finally:
            self._depth -= 1
            if self._depth == 0:
                self.steps.append(Step(name=name, seconds=time.perf_counter() - start))
