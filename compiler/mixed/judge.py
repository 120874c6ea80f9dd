"""How many points a plan loses to the float model, on calibration samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from qcompile.compiler.data.dataset import Dataset, Sample, Subset
from qcompile.compiler.mixed.margins import Estimate, Ranked, expected, ranked
from qcompile.compiler.mixed.own import OwnLoss
from qcompile.compiler.quantizing import quantize
from qcompile.compiler.report.points import points_lost
from qcompile.compiler.scoring import class_scores, names_in
from qcompile.compiler.verify.accuracy import classifier_output, evaluate
from qcompile.compiler.verify.user_metric import UserMetric
from qcompile.core.executor import Executor, Session
from qcompile.core.parallel import ordered_map
from qcompile.core.plan import QuantPlan

HELD_BYTES = 256 << 20
"""Inputs up to this size are kept in memory from one plan to the next."""

MOST_RANKED = 512
"""Samples whose margins are looked at, where there are so many."""

MOST_TESTED = 64
"""Held-out samples that plans are run on, where their loss is worked out from margins."""


@dataclass(frozen=True)
class _Classes:
    """What float says of the classes of many samples."""

    scores: ir.Value
    """What ranks them: before a Softmax, where there is one."""
    floats: Ranked
    """One row for each row of each sample; those of the tested samples come first."""
    tested: int
    """Rows of the tested samples."""
    labelled: bool


class Judge:
    """Works out what plans lose, in points (``report.points``).

    With a metric of the user's it is what is lost of that on the held-out samples (``own``). Of a
    classifier it is the loss that is to be expected (``margins``): errors come from held-out
    samples, which took no part in making the plans. The margins come from all samples, since float
    has learned nothing from them, and no plan enters into them. Of other models it is counted on
    the held-out samples.

    Args:
        reference: the canonical float graph.
        model: the graph that the plans are laid on; the same or a transformed one.
        executor: runs float and quantized graphs, with exact integer sums.
        samples: calibration samples.
        held: indices of those that took no part in making the plans.
        threads: samples in work at a time; no figure depends on it.
        metric: the user's own, which then decides alone.
    """

    def __init__(
        self,
        reference: ir.Model,
        model: ir.Model,
        executor: Executor,
        samples: Dataset,
        held: Sequence[int],
        threads: int,
        metric: UserMetric | None = None,
    ) -> None:
        self._float, self._model = reference, model
        self._executor, self._threads = executor, threads
        self._all, self._held = samples, held
        self._samples = _InMemory(Subset(samples, held, samples.name))
        self._reference = _Remembering(executor.load(reference))
        self._own = (
            None
            if metric is None
            else OwnLoss(metric, self._reference.session, self._samples, threads)
        )
        self._classes: _Classes | None = None
        self._looked = False
        self.trials = 0
        self.metric = ""
        """What a point is, as a phrase; known after the first plan was judged."""

    def drop(self, plan: QuantPlan) -> Estimate:
        """Points that a plan loses; below 0 only where a counted one wins some.

        Raises:
            QCompileError: BAD_METRIC, from the user's own.
        """
        self.trials += 1
        candidate = quantize(self._model, replace(plan, ends="float"))
        if self._own is not None:
            estimate = self._own.lost(self._executor.load(candidate, exact=True))
            self.metric = f"{self._own.what} on {len(self._samples)} held-out calibration samples"
            return estimate
        if not self._looked:
            self._classes, self._looked = self._look(), True
        return (
            self._counted(candidate)
            if self._classes is None
            else self._expected(candidate, self._classes)
        )

    def _expected(self, candidate: ir.Model, classes: _Classes) -> Estimate:
        names = names_in(candidate.graph, [classes.scores])
        session = self._executor.load(candidate, names, exact=True)
        found = ordered_map(
            lambda i: _rows(session.run(self._samples[i].feeds)[0]),
            range(min(len(self._samples), MOST_TESTED)),
            self._threads,
        )
        estimate = expected(
            classes.floats,
            np.arange(classes.tested),
            np.concatenate(found),
            by_chance=classes.labelled,
        )
        what = "top-1" if classes.labelled else "classes that change"
        how = "counted, since margins say otherwise" if estimate.counted else "expected"
        self.metric = (
            f"{what}, {how} from {len(classes.floats)} calibration samples, errors from "
            f"{classes.tested} held out"
        )
        return estimate

    def _counted(self, candidate: ir.Model) -> Estimate:
        found = evaluate(
            self._reference,
            self._executor.load(candidate, exact=True),
            self._samples,
            data="held-out calibration samples",
            threads=self._threads,
        )
        lost = points_lost(found)
        count = len(self._samples)
        step = "" if found.agreement is None else f", each {100 / max(count, 1):.2g} points"
        self.metric = f"{lost.what} on {count} held-out calibration samples{step}"
        return Estimate(lost.points, lost.low, lost.high)

    def _look(self) -> _Classes | None:
        """Run the float graph on all samples; None where it is no classifier with logits."""
        first = self._samples[0]
        labelled = self._samples.has_labels
        index = classifier_output(self._reference.run(first.feeds), first.feeds, labelled=labelled)
        if index is None:
            return None
        value = class_scores(self._float.graph.outputs[index])
        session = self._executor.load(self._float, [value.name or ""])
        if _are_chances(_rows(session.run(first.feeds)[0])):
            return None
        held = set(self._held)
        others = [i for i in range(len(self._all)) if i not in held]
        rest = Subset(self._all, others[: max(MOST_RANKED - len(held), 0)], self._all.name)

        def run(sample: Sample) -> tuple[np.ndarray, np.ndarray | None]:
            label = None if sample.label is None else np.asarray(sample.label).reshape(-1)
            return _rows(session.run(sample.feeds)[0]), label

        near, far = range(min(len(held), MOST_RANKED)), range(len(rest))
        made = ordered_map(lambda i: run(self._samples[i]), near, self._threads)
        made += ordered_map(lambda i: run(rest[i]), far, self._threads)
        logits = np.concatenate([scores for scores, _ in made])
        tested = sum(len(scores) for scores, _ in made[:MOST_TESTED][: len(near)])
        given = [label for _, label in made if label is not None]
        labels = np.concatenate(given) if labelled and len(given) == len(made) else None
        if labels is not None and not _are_classes(labels, logits.shape):
            return None
        return _Classes(value, ranked(logits, labels), tested, labels is not None)


def _rows(scores: np.ndarray) -> np.ndarray:
    """Class scores (rows, classes), whatever axes of one index stand between."""
    return scores.reshape(-1, scores.shape[-1])


def _are_chances(rows: np.ndarray) -> bool:
    """Whether scores went through a Softmax already, and are no logits."""
    return bool(np.all(rows >= 0) and np.allclose(rows.sum(axis=1), 1.0, rtol=0, atol=1e-3))


def _are_classes(labels: np.ndarray, shape: Sequence[int]) -> bool:
    """Whether there is a class number for each row."""
    rows, classes = shape
    whole = np.issubdtype(labels.dtype, np.integer) and len(labels) == rows
    return bool(whole and np.all((labels >= 0) & (labels < classes)))


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
