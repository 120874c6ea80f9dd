"""How close an artefact is to the float model, and to the labels, on data it has not seen.

Each sample is run by each model, compared, and dropped; only its few terms are kept (its outputs
in a file, where a metric of the user's wants them).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from qcompile.compiler.data.dataset import Dataset, Label
from qcompile.compiler.data.state import OwnState, PlacedFeeds, has_state
from qcompile.compiler.padding import text_positions, without_padding
from qcompile.compiler.progress import Counter, SilentCounter
from qcompile.compiler.report.accuracy import Accuracy
from qcompile.compiler.verify.language import (
    Language,
    LanguageScore,
    LanguageTerms,
    find_language,
    language_terms,
    no_caches,
    takes_less,
)
from qcompile.compiler.verify.metrics import (
    ClassScore,
    ClassTerms,
    OutputScore,
    OutputTerms,
    class_terms,
    output_terms,
)
from qcompile.compiler.verify.user_metric import Outputs, UserMetric
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Session
from qcompile.core.memory import give_back
from qcompile.core.parallel import ordered_map

LARGE_OUTPUTS: Final = 16 << 20
"""Bytes of a sample's outputs from which on one sample is in work at a time."""


@dataclass(frozen=True)
class _Terms:
    outputs: tuple[OutputTerms, ...]
    classes: ClassTerms | None = None
    language: LanguageTerms | None = None


@dataclass(frozen=True)
class _Pair:
    """Two sessions whose ends are lined up, and which of the outputs holds class scores."""

    reference: Session
    candidate: Session
    inputs: Mapping[str, str]
    """Input name of the reference -> of the candidate."""
    order: Sequence[int]
    """Which output of the candidate belongs to each of the reference's."""
    classifier: int | None = None
    language: Language | None = None
    """Where the tokens and logits of a language model are."""
    any_labels: bool = False
    """Whether labels may be anything else, and are then no class numbers: the user's own metric
    reads them."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        first = self.reference.run(feeds)
        renamed = {self.inputs[name]: x for name, x in feeds.items() if name in self.inputs}
        if isinstance(feeds, PlacedFeeds):
            renamed = PlacedFeeds(renamed, feeds.place)
        second = self.candidate.run(renamed)
        return first, [second[i] for i in self.order]


def evaluate(
    reference: Session,
    candidate: Session,
    samples: Dataset,
    *,
    data: str,
    threads: int = 1,
    arithmetic: str = "",
    metric: UserMetric | None = None,
    counter: Counter | None = None,
) -> Accuracy:
    """Compare an artefact with the float model it was made from.

    A model is taken for a classifier when one of its outputs is (rows, classes) of floats and it
    has labels; without labels, when that is its only output, it is not of an input's shape and
    its rows are not unit vectors (an embedding). With a metric of the user's, labels that are no
    classes of the model are for that metric alone. A language model is judged by its logits alone,
    by perplexity and by the next token that it would choose (``language``). Behind the end of a
    text, where its mask is 0, outputs do not count.

    Args:
        reference: the float model.
        candidate: the artefact; wrap it in ``FloatEnds`` when its ends are integers.
        samples: what to run them on.
        data: one phrase for the report on where the samples come from.
        threads: samples worked on at once; the result does not depend on it.
        arithmetic: for the report, whose integer sums the candidate uses if not this machine's.
        metric: the user's own, if there is one.
        counter: is advanced by one a sample.

    Raises:
        QCompileError: DATA_EMPTY; BAD_LABELS when labels do not fit the scores; BAD_METRIC;
            RUNTIME_FAILED when the two models' outputs do not correspond.
    """
    if len(samples) == 0:
        raise QCompileError(Code.DATA_EMPTY, "there is no sample to evaluate on")
    if has_state(samples):  # it is fed its own, which has an order
        candidate, threads = OwnState(candidate), 1
    pair = replace(_line_up(reference, candidate, samples), any_labels=metric is not None)
    watched = no_caches(reference.output_names, pair.language)
    scores = [OutputScore(reference.output_names[i]) for i in watched]
    classes = ClassScore() if pair.classifier is not None else None
    texts = LanguageScore() if pair.language is not None else None
    counter = counter or SilentCounter()
    names, count = reference.output_names, len(samples)
    kept = (Outputs(names, count), Outputs(names, count)) if metric is not None else None

    def compare(index: int) -> _Terms:
        terms = _compare(pair, samples, index, kept or ())
        counter.advance()
        return terms

    first = compare(0)
    if 4 * sum(part.elements for part in first.outputs) > LARGE_OUTPUTS:
        threads = 1
        give_back()
    rest = ordered_map(compare, range(1, len(samples)), threads)
    for index, terms in enumerate([first, *rest]):
        for score, part in zip(scores, terms.outputs, strict=True):
            score.add(part, index)
        if terms.classes is None:
            classes = None
        elif classes is not None:
            classes.add(terms.classes)
        if texts is not None and terms.language is not None:
            texts.add(terms.language)
    judged = classes or texts
    return Accuracy(
        data=data,
        samples=len(samples),
        outputs=tuple(score.result() for score in scores),
        metrics=classes.metrics() if classes is not None else (),
        own=metric.figures(*kept, samples) if metric and kept else (),
        agreement=judged.agreement() if judged is not None else None,
        perplexity=texts.perplexity() if texts is not None else None,
        arithmetic=arithmetic,
    )


def _compare(pair: _Pair, samples: Dataset, index: int, kept: Sequence[Outputs]) -> _Terms:
    sample = samples[index]
    feeds = sample.feeds if pair.language is None else pair.language.fed(sample.feeds)
    first, second = pair.run(feeds)
    for keeper, arrays in zip(kept, (first, second), strict=False):
        keeper.put(index, arrays)
    names = pair.reference.output_names
    watched = no_caches(names, pair.language)
    for name, a, b in ((names[i], first[i], second[i]) for i in watched):
        if a.shape != b.shape:
            raise QCompileError(
                Code.RUNTIME_FAILED,
                f"output {name} of {sample.source} has shape {a.shape} in the float model and "
                f"{b.shape} in the artefact",
            )
    text = text_positions(feeds)
    text = None if text is None or text.all() else text  # logits are large: no copy without need
    outputs = tuple(
        output_terms(without_padding(first[i], text), without_padding(second[i], text))
        for i in watched
    )
    if pair.language is not None:
        logits = pair.language.logits
        found = language_terms(pair.language, sample.feeds, first[logits], second[logits])
        return _Terms(outputs, language=found)
    if pair.classifier is None:
        return _Terms(outputs)
    scores, others = first[pair.classifier], second[pair.classifier]
    try:
        labels = _class_numbers(sample.label, scores.shape, sample.source)
    except QCompileError:
        if pair.any_labels:
            return _Terms(outputs)
        raise
    return _Terms(outputs, class_terms(scores, others, labels))


def _class_numbers(label: Label, shape: Sequence[int], source: str) -> np.ndarray | None:
    """The label of a sample as int64 (rows,)."""
    if label is None:
        return None
    rows, classes = shape
    flat = np.asarray(label).reshape(-1)
    if len(flat) != rows or not np.issubdtype(flat.dtype, np.integer):
        raise QCompileError(
            Code.BAD_LABELS,
            f"{source}: the model gives {rows} rows of {classes} scores; as many class numbers are "
            f"needed, but the label is {flat.dtype} of shape {np.shape(label)}",
        )
    wrong = flat[(flat < 0) | (flat >= classes)]
    if len(wrong):
        raise QCompileError(
            Code.BAD_LABELS,
            f"{source}: label {wrong[0]} is not a class of the model, which has {classes} "
            f"(0 to {classes - 1})",
            hint="labels count from 0; some models put a background class in front",
        )
    return flat.astype(np.int64)


def _line_up(reference: Session, candidate: Session, samples: Dataset) -> _Pair:
    """Match the ends of both sessions by name, or by position where no name is the same."""
    inputs = _match("inputs", reference.input_names, candidate.input_names)
    outputs = _match("outputs", reference.output_names, candidate.output_names)
    where = {name: i for i, name in enumerate(candidate.output_names)}
    order = [where[outputs[name]] for name in reference.output_names]
    feeds = samples[0].feeds
    language = find_language(reference, feeds)
    if language is not None:
        if language.cuts:
            given = {inputs[name]: x for name, x in feeds.items() if name in inputs}
            own = replace(language, tokens=inputs[language.tokens])
            language = replace(language, cuts=takes_less(candidate, given, own))
        return _Pair(reference, candidate, inputs, order, language=language)
    scores = classifier_output(reference.run(feeds), feeds, labelled=samples.has_labels)
    return _Pair(reference, candidate, inputs, order, scores)


def _match(what: str, ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    if set(ours) == set(theirs):
        return {name: name for name in ours}
    if len(ours) != len(theirs) or set(ours) & set(theirs):
        raise QCompileError(
            Code.RUNTIME_FAILED,
            f"the {what} of the two models do not correspond: {', '.join(ours)} in the float "
            f"model, {', '.join(theirs)} in the artefact",
            hint="is this the model the artefact was made from?",
        )
    return dict(zip(ours, theirs, strict=True))


def classifier_output(
    outputs: Sequence[np.ndarray], feeds: Mapping[str, np.ndarray], *, labelled: bool
) -> int | None:
    """Which output holds class scores, by the rule in ``evaluate``."""
    fits = [i for i, y in enumerate(outputs) if _is_table_of_scores(y)]
    if labelled:
        return fits[0] if len(fits) == 1 else None
    if len(outputs) != 1 or not fits:
        return None
    table = outputs[0]
    if any(x.shape == table.shape for x in feeds.values()) or _has_unit_rows(table):
        return None
    return 0


def _is_table_of_scores(y: np.ndarray) -> bool:
    return y.ndim == 2 and y.shape[1] >= 2 and bool(np.issubdtype(y.dtype, np.floating))


def _has_unit_rows(y: np.ndarray) -> bool:
    """Whether every row has length 1; a sure answer of a softmax has that too, and is none."""
    rows = y.astype(np.float64)
    if np.all(rows >= 0):
        return False
    return bool(np.allclose((rows * rows).sum(axis=1), 1.0, rtol=0, atol=1e-3))
