"""A budget of wall time that several steps draw on."""

import math
import time
from collections.abc import Callable


class Budget:
    """Seconds of wall time, counted from when the budget is made.

    Steps that may go on for as long as one likes ask ``is_spent`` between rounds and stop. A budget
    of None never ends, and what is done under it depends on no clock.

    Args:
        seconds: how long; None for no limit. A budget below 0 is spent from the start.
        clock: gives the time in seconds; monotonic.
    """

    def __init__(
        self, seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._start = clock()

    @property
    def spent(self) -> float:
        """Seconds since the budget was made."""
        return self._clock() - self._start

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return self.left() <= 0

    def left(self) -> float:
        """Seconds that are left, 0 or more; infinite without a limit."""
        return math.inf if self.seconds is None else max(self.seconds - self.spent, 0.0)

    def share(self, fraction: float) -> "Budget":
        """A budget that starts now and has this fraction of what is left of this one.

        Raises:
            ValueError: the fraction is not within 0..1.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"a share is a fraction from 0 to 1, not {fraction}")
        return Budget(None if self.seconds is None else self.left() * fraction, self._clock)
