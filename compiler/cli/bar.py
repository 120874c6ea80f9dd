"""Shows the stages of a build on stderr: as bars on a terminal, as lines in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from qcompile.compiler.progress import Counter, SilentCounter
from qcompile.compiler.report.table_view import console_for


class Bar:
    """One bar for each stage that is open; nothing is left on the terminal at the end."""

    def __init__(self, file: IO[str]) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console_for(file),
            transient=True,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Counter]:
        """Show a bar, or a spinner when the total is not known."""
        task = self._bars.add_task(name, total=total)
        try:
            yield _BarCounter(self._bars, task)
        finally:
            self._bars.remove_task(task)


@dataclass(frozen=True)
class _BarCounter:
    bars: Progress
    task: TaskID

    def advance(self, amount: int = 1) -> None:
        self.bars.advance(self.task, amount)


@dataclass(frozen=True)
class Lines:
    """One line for each stage that ends."""

    file: IO[str]

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Counter]:
        """Time a stage; say nothing of one that failed, the error will."""
        start = time.perf_counter()
        yield SilentCounter()
        many = "" if total is None else f" ({total})"
        print(f"{name}{many}: {time.perf_counter() - start:.2f} s", file=self.file, flush=True)
