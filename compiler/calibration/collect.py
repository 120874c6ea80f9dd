"""Gathers statistics of a float graph's values: one inference a sample, nothing kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Lock

import numpy as np
import onnx_ir as ir

from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Executor, Session
from qcompile.core.statistics.base import (
    NotFiniteError,
    Statistic,
    StatisticRequest,
    Statistics,
)

Feeds = Mapping[str, np.ndarray]


def collect(
    executor: Executor,
    model: ir.Model,
    request: StatisticRequest,
    feeds: Sequence[Feeds],
    *,
    threads: int = 2,
    progress: Callable[[int], None] | None = None,
) -> Statistics:
    """Gather the statistics asked for, over all samples.

    The model is loaded once, with the values asked for as its outputs; each sample is read from
    ``feeds``, run once with one thread, looked at and dropped. ``threads`` samples are in work at
    a time, so the statistics of one overlap the inference of the next (the runtime and numpy
    release the interpreter's lock). Statistics do not depend on the order of samples: the result
    is the same to the byte for any number of threads. Memory does not grow with the samples.

    Args:
        executor: loads and runs the model.
        model: the canonical float graph; not changed.
        request: value name -> statistic name -> factory. Values may be graph inputs.
        feeds: ``feeds[i]`` reads sample ``i``: input name -> array. Called once a sample, from
            any thread.
        threads: samples in work at a time.
        progress: called with the number of samples done so far, from any thread, one at a time.

    Returns:
        The statistics, under the names of the request.

    Raises:
        QCompileError: what ``feeds`` or the executor raised; DATA_UNREADABLE when a sample cannot
            be read, DATA_VALUES when a value is NaN or infinite. The sample is named, and it is
            the first one that fails, for any number of threads.
    """
    gathered = {v: {name: make() for name, make in wanted.items()} for v, wanted in request.items()}
    inputs = {value.name for value in model.graph.inputs}
    outputs = [name for name in request if name not in inputs]
    session = executor.load(model, outputs, threads=1) if outputs else None
    work = _Work(session, feeds, gathered, outputs, progress)
    if threads <= 1 or len(feeds) <= 1:
        work.run()
    else:
        with ThreadPoolExecutor(min(threads, len(feeds)), "calibration") as pool:
            futures = [pool.submit(work.run) for _ in range(min(threads, len(feeds)))]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                work.stopped = True  # an interrupt must not wait for the remaining samples
                raise
    if work.failures:
        raise work.failures[min(work.failures)]
    return gathered


class _Work:
    """What the threads share: samples are handed out one by one in the order of their index."""

    def __init__(
        self,
        session: Session | None,
        feeds: Sequence[Feeds],
        gathered: Statistics,
        outputs: Sequence[str],
        progress: Callable[[int], None] | None,
    ) -> None:
        self.session = session
        self.feeds = feeds
        self.gathered = gathered
        self.outputs = outputs
        self.from_feeds = [name for name in gathered if name not in set(outputs)]
        self.progress = progress
        self.stopped = False
        self.failures: dict[int, QCompileError] = {}
        self._next = count()
        self._done = 0
        self._counting = Lock()
        self._locks = {name: Lock() for name in gathered}

    def run(self) -> None:
        """Work off samples until there are none left, or one has failed.

        A sample that fails leaves all with a lower index to finish: they were handed out before.
        """
        while not self.stopped and (index := next(self._next)) < len(self.feeds):
            try:
                self._sample(index)
            except QCompileError as error:
                self.failures[index] = error
                self.stopped = True
            except BaseException:
                self.stopped = True
                raise
            self._count()

    def _sample(self, index: int) -> None:
        feeds = self._read(index)
        for name in self.from_feeds:
            self._look(name, np.asarray(feeds[name]), index)
        if self.session is None:
            return
        try:
            results = self.session.run(feeds)
        except QCompileError as error:
            raise QCompileError(
                error.code, f"sample {index}: {error.message}", node=error.node, hint=error.hint
            ) from error
        for name, result in _last_first(self.outputs, results):
            self._look(name, result, index)

    def _read(self, index: int) -> Feeds:
        try:
            return self.feeds[index]
        except QCompileError:
            raise  # it names the file
        except Exception as error:  # the user's own loader may raise anything
            raise QCompileError(
                Code.DATA_UNREADABLE,
                f"sample {index} cannot be read: {type(error).__name__}: {error}",
            ) from error

    def _look(self, name: str, array: np.ndarray, index: int) -> None:
        with self._locks[name]:
            for statistic in self.gathered[name].values():
                _update(statistic, array, name, index)

    def _count(self) -> None:
        with self._counting:
            self._done += 1
            if self.progress is not None:
                self.progress(self._done)


def _last_first(
    names: Sequence[str], results: list[np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and results from the last to the first, each dropped before the next is given.

    The last ones are still in the cache, and a runtime's allocator that takes its blocks back
    in the opposite order gives the same ones again.
    """
    for name in reversed(names):
        yield name, results.pop()


def _update(statistic: Statistic, array: np.ndarray, name: str, index: int) -> None:
    try:
        statistic.update(array, index)
    except NotFiniteError as error:
        raise QCompileError(
            Code.DATA_VALUES,
            f"value '{name}' is not finite for sample {index} ({error})",
            hint="look at that sample and its preprocessing; a model that overflows in float "
            "cannot be quantized",
        ) from error
