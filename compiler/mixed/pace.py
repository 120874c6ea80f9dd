"""Whether another trial ends in time, by how long the longest one of its kind has taken."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from qcompile.core.budget import Budget


@dataclass
class Pace:
    """Keeps trials of some kinds within a budget of time.

    Args:
        budget: what they have together; trials under one without a limit depend on no clock.
        clock: gives seconds; for tests.
    """

    budget: Budget
    clock: Callable[[], float] = time.monotonic
    _longest: dict[str, float] = field(default_factory=dict)

    def fits(self, kind: str, count: int = 1, *, share: float = 1.0) -> bool:
        """Whether so many more trials of a kind would end within a share of what is left."""
        if self.budget.seconds is None:
            return True
        left = self.budget.left() * share
        return left > 0 and count * self._longest.get(kind, 0.0) <= left

    def expect(self, kind: str, seconds: float) -> None:
        """Say how long a trial of a kind takes before there was one."""
        self._longest[kind] = max(seconds, self._longest.get(kind, 0.0))

    @contextmanager
    def trial(self, kind: str) -> Iterator[None]:
        """Time one trial."""
        start = self.clock()
        yield
        self.expect(kind, self.clock() - start)
