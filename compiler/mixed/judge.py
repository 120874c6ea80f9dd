"""How many points a plan loses to the float model, on held-out calibration samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from qcompile.compiler.data.dataset import Dataset, Sample
from qcompile.compiler.quantizing import quantize
from qcompile.compiler.report.points import points_lost
from qcompile.compiler.verify.accuracy import evaluate
from qcompile.core.executor import Executor, Session
from qcompile.core.plan import QuantPlan

HELD_BYTES = 256 << 20
"""Inputs up to this size are kept in memory from one plan to the next."""


class Judge:
    """Measures what plans lose, in points (``report.points``).

    Args:
        reference: the canonical float graph.
        model: the graph that the plans are laid on; the same or a transformed one.
        executor: runs float and quantized graphs, with exact integer sums.
        samples: held out: they took no part in making the plans.
        threads: samples in work at a time; no figure depends on it.
    """

    def __init__(
        self,
        reference: ir.Model,
        model: ir.Model,
        executor: Executor,
        samples: Dataset,
        threads: int,
    ) -> None:
        self._model, self._executor, self._threads = model, executor, threads
        self._samples = _InMemory(samples)
        self._reference = _Remembering(executor.load(reference))
        self.trials = 0
        self.metric = ""
        """What a point is, as a phrase; known after the first plan was judged."""

    def drop(self, plan: QuantPlan) -> float:
        """Points that a plan loses; negative when it wins some."""
        candidate = quantize(self._model, replace(plan, ends="float"))
        found = evaluate(
            self._reference,
            self._executor.load(candidate, exact=True),
            self._samples,
            data="held-out calibration samples",
            threads=self._threads,
        )
        self.trials += 1
        points, what = points_lost(found)
        count = len(self._samples)
        step = "" if found.agreement is None else f", each {100 / max(count, 1):.2g} points"
        self.metric = f"{what} on {count} held-out calibration samples{step}"
        return points


class _InMemory:
    """A set whose first samples, as many as fit, are kept once read."""

    def __init__(self, dataset: Dataset) -> None:
        self.name, self.has_labels = dataset.name, dataset.has_labels
        self._dataset = dataset
        self._kept: dict[int, Sample] = {}
        first = sum(x.nbytes for x in dataset[0].feeds.values()) if len(dataset) else 1
        self._most = HELD_BYTES // max(first, 1)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self._dataset[index]
        if index < self._most:
            self._kept[index] = sample
        return sample


@dataclass
class _Remembering:
    """A session that remembers what it gave for feeds that are still in memory."""

    session: Session
    _known: dict[int, tuple[Mapping[str, np.ndarray], list[np.ndarray]]] = field(
        default_factory=dict
    )
    _bytes: int = 0

    @property
    def input_names(self) -> list[str]:
        """See ``core.executor.Session``."""
        return list(self.session.input_names)

    @property
    def output_names(self) -> list[str]:
        """See ``core.executor.Session``."""
        return list(self.session.output_names)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """See ``core.executor.Session``; the feeds are held, so that none takes their place."""
        known = self._known.get(id(feeds))
        if known is not None:
            return known[1]
        found = self.session.run(feeds)
        size = sum(x.nbytes for x in (*feeds.values(), *found))
        if self._bytes + size <= HELD_BYTES:
            self._bytes += size
            self._known[id(feeds)] = (feeds, found)
        return found
