"""A ``with`` block for what has a ``close``."""

from types import TracebackType
from typing import Self


class Closing:
    """Closes itself at the end of a ``with`` block; derived classes say what that means."""

    def close(self) -> None:
        """End what runs and remove what was made; a second time it does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
