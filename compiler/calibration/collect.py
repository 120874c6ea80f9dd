"""Gathers statistics of a float graph's values: one inference a sample, nothing kept."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event, Lock
from typing import TypeGuard

import numpy as np
import onnx_ir as ir

from qcompile.compiler.calibration.probes import View, look, with_probes
from qcompile.compiler.padding import only_text, text_positions
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Executor, Feeds, Session
from qcompile.core.statistics.base import (
    NotFiniteError,
    Statistic,
    StatisticRequest,
    Statistics,
)
from qcompile.core.statistics.channel_mean import ChannelMean
from qcompile.core.statistics.mean_tensor import MeanTensor


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

    The model is loaded once, with the values asked for (or probes, see there) as its outputs, and
    again without those of which only the first samples' mean is asked. Each sample is read from
    ``feeds``, run once with one thread, looked at and dropped. ``threads`` samples are in work at
    a time, so the statistics of one overlap the inference of the next (the runtime and numpy
    release the interpreter's lock). Behind the end of a text, where its mask is 0, nothing counts,
    save for means that bias correction compares element by element. Statistics do not depend on
    the order of samples: the result is the same to the byte for any number of threads. Memory does
    not grow with the samples.

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
    work = _Work(_phases(executor, model, gathered, len(feeds)), feeds, gathered, progress)
    if threads <= 1 or len(feeds) <= 1:
        work.run()
    else:
        with ThreadPoolExecutor(min(threads, len(feeds)), "calibration") as pool:
            futures = [pool.submit(work.run) for _ in range(min(threads, len(feeds)))]
            try:
                for future in futures:
                    future.result()
            finally:
                work.stopped = True  # an interrupt must not wait for the remaining samples
    if work.failures:
        raise work.failures[min(work.failures)]
    return gathered


def _phases(
    executor: Executor, model: ir.Model, gathered: Statistics, samples: int
) -> list["_Phase"]:
    """The phases of a run: means are of the first samples only."""
    stop = max((s.stop for of in gathered.values() for s in of.values() if _is_mean(s)), default=0)
    everything = _Phase(executor, model, gathered, range(samples))
    if not 0 < stop < samples:
        return [everything]
    lasting = {
        value: {name: s for name, s in statistics.items() if not _is_mean(s)}
        for value, statistics in gathered.items()
    }
    lasting = {value: statistics for value, statistics in lasting.items() if statistics}
    rest = _Phase(executor, model, lasting, range(stop, samples))
    if rest.views == everything.views:
        return [everything]
    first = _Phase(executor, model, gathered, range(stop))
    rest.after = first
    return [first, rest]


def _is_mean(statistic: Statistic) -> TypeGuard[ChannelMean | MeanTensor]:
    return isinstance(statistic, ChannelMean | MeanTensor)


class _Phase:
    """Samples that are looked at in one way, and the session that serves them."""

    def __init__(
        self, executor: Executor, model: ir.Model, gathered: Statistics, samples: range
    ) -> None:
        inputs = [value.name for value in model.graph.inputs]
        self.of_feeds = [View(v, v, tuple(gathered[v])) for v in inputs if v in gathered]
        outputs = [name for name in gathered if name not in set(inputs)]
        self.model, self.views = with_probes(model, outputs, gathered)
        self.samples = samples
        self.after: _Phase | None = None
        self._executor = executor
        self._session: Session | None = None
        self._lock = Lock()
        self._open = len(samples)
        self._finished = Event()

    def session(self) -> Session:
        """Load when first asked for, once the phase before has let go of its session."""
        if self.after is not None:
            self.after._finished.wait()
        with self._lock:
            if self._session is None:
                names = [view.output for view in self.views]
                self._session = self._executor.load(self.model, names, threads=1)
            return self._session

    def leave(self) -> None:
        """One sample is finished with, or has failed."""
        with self._lock:
            self._open -= 1
            if not self._open:
                self._session = None
                self._finished.set()


class _Work:
    """What the threads share: samples are handed out one by one in the order of their index."""

    def __init__(
        self,
        phases: list[_Phase],
        feeds: Sequence[Feeds],
        gathered: Statistics,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.phases = phases
        self.feeds = feeds
        self.gathered = gathered
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
        try:
            while not self.stopped and (index := next(self._next)) < len(self.feeds):
                self._work_off(index)
        finally:
            self.stopped = True

    def _work_off(self, index: int) -> None:
        phase = next(p for p in self.phases if index in p.samples)
        try:
            self._sample(phase, index)
        except QCompileError as error:
            self.failures[index] = error
            self.stopped = True
        finally:
            phase.leave()
        self._count()

    def _sample(self, phase: _Phase, index: int) -> None:
        feeds = self._read(index)
        text = text_positions(feeds)
        for view in phase.of_feeds:
            self._look(view, np.asarray(feeds[view.output]), index, text)
        if not phase.views:
            return
        session = phase.session()
        try:
            results = session.run(feeds)
        except QCompileError as error:
            raise QCompileError(
                error.code, f"sample {index}: {error.message}", node=error.node, hint=error.hint
            ) from error
        for view, result in _last_first(phase.views, results):
            self._look(view, result, index, text)

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

    def _look(self, view: View, array: np.ndarray, index: int, text: np.ndarray | None) -> None:
        gathered = self.gathered[view.value]
        if not any(isinstance(s, MeanTensor) for s in gathered.values()):  # it wants equal shapes
            array = only_text(array, text)
        with self._locks[view.value]:
            try:
                look(view, array, gathered, index)
            except NotFiniteError as error:
                raise QCompileError(
                    Code.DATA_VALUES,
                    f"value '{view.value}' is not finite for sample {index} ({error})",
                    hint="look at that sample and its preprocessing; a model that overflows in "
                    "float cannot be quantized",
                ) from error

    def _count(self) -> None:
        with self._counting:
            self._done += 1
            if self.progress is not None:
                self.progress(self._done)


def _last_first(
    views: Sequence[View], results: list[np.ndarray]
) -> Iterator[tuple[View, np.ndarray]]:
    """Views and results from the last to the first, each dropped before the next is given.

    The last ones are still in the cache, and a runtime's allocator that takes its blocks back
    in the opposite order gives the same ones again.
    """
    for view in reversed(views):
        yield view, results.pop()
