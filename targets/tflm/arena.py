"""The smallest arena in which TFLite Micro loads and runs a model, found by trying.

What the interpreter says it allocated is a lower bound: it needs more while it prepares.
"""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from qcompile.core.closing import Closing
from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.reading import read_graph
from qcompile.targets.tflm.session import CALL_SECONDS, CHILD, last_words, roomy, runtime_name
from qcompile.targets.worker import Worker, WorkerDied, WorkerFailed

STEP: Final = 16
"""Bytes by which arenas differ: TFLite Micro's alignment."""

_TOTAL: Final = re.compile(r"Arena allocation total (\d+) bytes")


def smallest_arena(data: bytes) -> int:
    """Bytes of the smallest arena, a multiple of 16, in which a model loads and runs.

    TFLite Micro may crash in an arena that is too small; a process that died counts as "too small".

    Raises:
        QCompileError: MISSING_EXTRA; RUNTIME_REFUSED with TFLite Micro's reason when it does not
            run the model in any.
    """
    name, graph = runtime_name(), read_graph(data)
    feeds = [np.zeros(graph.tensors[i].shape, graph.tensors[i].dtype) for i in graph.inputs]
    with _Tries(data, feeds) as tries:
        low = tries.recorded(name, roomy(graph)) // STEP
        high, width = low, 1
        while not tries.fits(high * STEP):
            low, high, width = high, high + width, width * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if tries.fits(middle * STEP) else (middle, high)
        return high * STEP


class _Tries(Closing):
    """A process that tries arenas; another one when it died."""

    def __init__(self, data: bytes, feeds: Sequence[np.ndarray]) -> None:
        self._data, self._feeds = data, feeds
        self._worker = Worker(CHILD, timeout=CALL_SECONDS)

    def recorded(self, name: str, arena: int) -> int:
        """The bytes that stay allocated, by the interpreter's own account."""
        try:
            self._worker.call("open", self._data, arena)
            self._worker.call("run", self._feeds, 0)
            self._worker.call("allocations")
        except (WorkerDied, WorkerFailed) as error:
            why = last_words(self._worker.log()) or str(error)
            raise QCompileError(
                Code.RUNTIME_REFUSED, f"{name} does not run the model: {why}"
            ) from error
        found = _TOTAL.search(self._worker.log())
        return int(found[1]) if found else 0

    def fits(self, arena: int) -> bool:
        """Whether the model loads and runs in an arena of that many bytes."""
        try:
            return bool(self._worker.call("fits", self._data, arena, self._feeds))
        except WorkerDied:
            self._worker.close()
            self._worker = Worker(CHILD, timeout=CALL_SECONDS)
            return False

    def close(self) -> None:
        """End the process."""
        self._worker.close()
