"""What runs TFLite Micro, in a process of its own: an arena that is too small may crash it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompile.targets.worker import serve


class Micro:
    """One interpreter at a time."""

    def __init__(self) -> None:
        self._open: Any = None

    def open(self, model: bytes, arena: int) -> None:
        """Load a model into an arena of that many bytes.

        Raises:
            RuntimeError: where it does not fit or cannot be run; the log says why.
        """
        from tflite_micro.python.tflite_micro import runtime

        self._open = None  # frees its arena first
        self._open = runtime.Interpreter.from_bytes(model, arena_size=arena)

    def run(self, feeds: Sequence[np.ndarray], outputs: int) -> list[np.ndarray]:
        """Run the model that is open."""
        for index, array in enumerate(feeds):
            self._open.set_input(array, index)
        self._open.invoke()
        return [np.array(self._open.get_output(index)) for index in range(outputs)]

    def fits(self, model: bytes, arena: int, feeds: Sequence[np.ndarray]) -> bool:
        """Whether the model can be loaded and run in an arena of that many bytes."""
        try:
            self.open(model, arena)
            self.run(feeds, 0)
        except RuntimeError:
            return False
        return True

    def allocations(self) -> None:
        """Have what the arena holds printed."""
        self._open.print_allocations()


def main() -> None:
    """Serve until the host is gone."""
    micro = Micro()
    served = (micro.open, micro.run, micro.fits, micro.allocations)
    serve({function.__name__: function for function in served})
