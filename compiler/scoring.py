"""How good a plan is, by the outputs of the model on samples that took no part in making it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from qcompile.compiler.padding import text_positions, without_padding
from qcompile.compiler.quantizing import quantize
from qcompile.compiler.verify.accuracy import classifier_output
from qcompile.compiler.verify.metrics import class_terms, output_terms, sqnr_db
from qcompile.core import graph as g
from qcompile.core.decoder_ends import decoder_ends
from qcompile.core.executor import Executor, Feeds, Session
from qcompile.core.memory import give_back
from qcompile.core.parallel import ordered_map
from qcompile.core.plan import QuantPlan
from qcompile.core.signature import signature_of
from qcompile.passes.quantize.row_scales import RowScales

CACHED_BYTES = 64 << 20
"""Float outputs up to this size are kept from one score to the next."""

MOST_COLUMNS = 128
"""An axis of more indices than this has no columns with a meaning of their own."""

BEST_DB = 100.0
"""An output that is closer than this counts as this close: float32 carries no more."""


@dataclass(frozen=True)
class Score:
    """How close the outputs of a plan are to those of float."""

    db: float = 0.0
    """Mean SQNR of the outputs in dB, each at most ``BEST_DB``."""
    agreement: float | None = None
    """Share of the rows in which both have the same class; None where no output has classes."""


@dataclass(frozen=True)
class _Watched:
    """One value by which plans are judged."""

    value: ir.Value
    centred: bool
    """Only differences along the last axis count, since a Softmax is all that reads it."""
    columns: int | None = None
    """Axis along which each index counts for itself; None where all elements count together."""


@dataclass(frozen=True)
class _Terms:
    """What one sample contributes to the score."""

    energies: list[np.ndarray]
    """Of each watched value, see ``_energies``."""
    errors: list[np.ndarray]
    """Of each watched value, see ``_errors``; empty unless their means do not count."""
    rows: int = 0
    agree: int = 0


class Scorer:
    """Scores plans for one model.

    The score is the SQNR in dB over all samples, as a mean over the float outputs. The output of a
    Softmax that ranks the classes of a whole sample is judged by what goes into it, less its mean:
    probabilities near 0 and 1 hide most of what happens to the logits. Where a Softmax gives many
    rows a sample (a detector's scores), the probabilities themselves count, and so the few that
    are sure. Where many rows have a few columns (boxes beside scores, the channels of a map), each
    column has its own SQNR, and their mean counts: next to boxes in pixels, scores that all became
    0 would not be seen. Behind the end of a text, where its mask is 0, nothing counts, and
    nor do the caches of a decoder beside its logits.

    Args:
        model: the canonical float graph.
        executor: runs float and quantized graphs, with exact integer sums.
        feeds: held-out calibration samples; few, since they are held in memory.
        threads: samples in work at a time; no score depends on it.
        rows: layers that find their scales as they run have one a row (``Target.dynamic_scales``).
        corrected: the mean error of each index of an output's columns (else of its last axis) does
            not count, as if the biases had been corrected for it: for plans that are compared
            before they are corrected.
    """

    def __init__(
        self,
        model: ir.Model,
        executor: Executor,
        feeds: Sequence[Feeds],
        threads: int,
        *,
        rows: bool = False,
        corrected: bool = False,
    ) -> None:
        self.feeds = feeds
        self._rows = rows
        self._model, self._executor, self._threads = model, executor, threads
        self._corrected = corrected
        self._watched = _watched(model)
        self._session: Session | None = None
        self._classes: int | None = None
        """Which of the watched values holds class scores, known once the float graph has run."""
        self._cached: list[list[np.ndarray]] | None = None

    def score(self, plan: QuantPlan, model: ir.Model | None = None) -> float:
        """Mean SQNR in dB of a plan, each output at most ``BEST_DB``; 0 without float outputs.

        Args:
            plan: with all parameters set.
            model: the graph the plan is laid on, where it is not the float graph itself but one
                of the same function and names (a transformed one).
        """
        return self.judge(plan, model).db

    def judge(self, plan: QuantPlan, model: ir.Model | None = None) -> Score:
        """As ``score``, with the agreement of a classifier."""
        quantized = quantize(model or self._model, replace(plan, ends="float"))
        return self.judge_graph(RowScales()(quantized).model if self._rows else quantized)

    def of_graph(self, quantized: ir.Model, *, optimize: bool = True) -> float:
        """Mean SQNR of any graph with the float graph's names, as ``judge_graph``."""
        return self.judge_graph(quantized, optimize=optimize).db

    def judge_graph(self, quantized: ir.Model, *, optimize: bool = True) -> Score:
        """The score of any graph with the float graph's names.

        ``optimize=False`` for graphs that leave weights float between quantized activations, which
        ONNX Runtime's optimizer changes.
        """
        if not self._watched or not self.feeds:
            return Score()
        names = names_in(quantized.graph, [w.value for w in self._watched])
        candidate = self._executor.load(quantized, names, exact=True, optimize=optimize)
        self._reference(0)  # before the threads, so that it is loaded once

        def one(index: int) -> _Terms:
            floats = self._reference(index)
            made = candidate.run(self.feeds[index])
            if self._cached is None:
                give_back()
            each = list(self._judged(index, floats, made))
            energies = [_energies(w, y, z) for w, y, z in each]
            errors = [_errors(w, y, z) for w, y, z in each] if self._corrected else []
            if self._classes is None:
                return _Terms(energies, errors)
            y, z = (
                a[self._classes].reshape(-1, a[self._classes].shape[-1]) for a in (floats, made)
            )
            classes = class_terms(y, z, None)
            return _Terms(energies, errors, classes.rows, classes.agree)

        # Outputs too large to be kept are too large to have several at a time.
        threads = 1 if self._cached is None else self._threads
        terms = ordered_map(one, range(len(self.feeds)), threads)
        each = zip(*(t.energies for t in terms), strict=True)
        totals = [sum(of_one[1:], of_one[0]) for of_one in each]
        if self._corrected:
            sums = zip(*(t.errors for t in terms), strict=True)
            means = [sum(of_one[1:], of_one[0]) for of_one in sums]
            totals = [_without_means(*pair) for pair in zip(totals, means, strict=True)]
        rows = sum(t.rows for t in terms)
        return Score(
            float(np.mean([_decibels(total) for total in totals])),
            sum(t.agree for t in terms) / rows if rows else None,
        )

    def _judged(
        self, index: int, floats: Sequence[np.ndarray], made: Sequence[np.ndarray]
    ) -> Iterator[tuple[_Watched, np.ndarray, np.ndarray]]:
        """The watched values of a sample without their padding, as float has them and as made."""
        text = text_positions(self.feeds[index])
        for watched, y, z in zip(self._watched, floats, made, strict=True):
            kept = without_padding(y, text)
            if kept is y:
                yield watched, y, z
            else:  # positions are no columns, and the axes behind them have moved up
                axis = watched.columns
                columns = axis - 1 if axis is not None and axis > 1 else None
                yield replace(watched, columns=columns), kept, without_padding(z, text)

    def _classifier(self, outputs: Sequence[np.ndarray]) -> int | None:
        """The logits of the one Softmax, or the one output that looks like scores of classes."""
        ranked = [i for i, watched in enumerate(self._watched) if watched.centred]
        if ranked or len(self._model.graph.outputs) != 1:
            return ranked[0] if len(ranked) == 1 else None
        return classifier_output(outputs, self.feeds[0], labelled=False)

    def _reference(self, index: int) -> list[np.ndarray]:
        """The float graph's outputs for a sample; kept, unless all of them are too large."""
        if self._session is None:
            names = [w.value.name or "" for w in self._watched]
            self._session = self._executor.load(self._model, names)
            first = self._session.run(self.feeds[0])
            self._classes = self._classifier(first)
            if sum(y.nbytes for y in first) * len(self.feeds) <= CACHED_BYTES:
                run = self._session.run
                rest = ordered_map(
                    lambda i: run(self.feeds[i]), range(1, len(self.feeds)), self._threads
                )
                self._cached = [first, *rest]
        if self._cached is not None:
            return self._cached[index]
        found = self._session.run(self.feeds[index])
        give_back()  # the float weights, which the other graph does not read
        return found


def _energies(watched: _Watched, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Energy of the signal and of the noise in each column, float64 (columns, 2)."""
    if watched.centred:
        y, z = (a - a.mean(axis=-1, keepdims=True, dtype=np.float64) for a in (y, z))
    if watched.columns is None:
        return output_terms(y, z).sums[np.newaxis, :2]
    pairs = zip(np.moveaxis(y, watched.columns, 0), np.moveaxis(z, watched.columns, 0), strict=True)
    return np.stack([output_terms(a, b).sums[:2] for a, b in pairs])


def _errors(watched: _Watched, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Sum of the error at each index of the columns, else of the last axis, float64 (indices, 2).

    Beside each sum stands how many elements it is of.
    """
    if watched.centred:
        y, z = (a - a.mean(axis=-1, keepdims=True, dtype=np.float64) for a in (y, z))
    axis = -1 if watched.columns is None else watched.columns
    error = np.asarray(z, np.float64) - y
    if not error.ndim:
        error = error.reshape(1)
    flat = np.moveaxis(error, axis, 0).reshape(error.shape[axis], -1)
    return np.stack([flat.sum(axis=1), np.full(len(flat), float(flat.shape[1]))], axis=1)


def _without_means(energies: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Energies (columns, 2) less those of mean errors, whose sums and counts are (indices, 2)."""
    of_means = errors[:, 0] ** 2 / np.maximum(errors[:, 1], 1.0)
    if len(energies) != len(errors):
        of_means = of_means.sum(keepdims=True)
    noise = np.maximum(energies[:, 1] - of_means, 0.0)
    return np.stack([energies[:, 0], noise], axis=1)


def _decibels(energies: np.ndarray) -> float:
    """Mean SQNR over the columns in which there is any signal."""
    live = [row for row in energies.tolist() if row[0] > 0] or [[0.0, energies[:, 1].sum()]]
    return float(np.mean([min(max(sqnr_db(*row), -BEST_DB), BEST_DB) for row in live]))


def _watched(model: ir.Model) -> list[_Watched]:
    found: dict[ir.Value, _Watched] = {}
    caches = _caches(model)
    for output in model.graph.outputs:
        if output.name in caches:
            continue
        if output.dtype is not None and output.dtype.is_floating_point():
            value = class_scores(output)
            found.setdefault(value, _Watched(value, value is not output, _columns(value)))
    return list(found.values())


def _caches(model: ir.Model) -> set[str]:
    """Outputs that only the model itself reads again: what they are worth its logits say."""
    ends = decoder_ends(signature_of(model))
    return set() if ends is None else {cache.given.name for cache in ends.caches}


def _columns(value: ir.Value) -> int | None:
    """The axis of few indices in an output of at least three axes; None where there is none."""
    dims = list(value.shape or ())
    few = [(d, i) for i, d in enumerate(dims) if i and isinstance(d, int) and 1 < d <= MOST_COLUMNS]
    if len(dims) < 3 or not few:
        return None
    return min(few)[1]


def class_scores(output: ir.Value) -> ir.Value:
    """What a Softmax that gives one row a sample reads; every other output itself."""
    node = output.producer()
    if node is None or node.op_type not in {"Softmax", "LogSoftmax"}:
        return output
    source, shape = node.inputs[0], output.shape
    rank = g.rank(output)
    if source is None or rank is None or shape is None or source.is_graph_input():
        return output
    if g.attribute_int(node, "axis", -1) not in {-1, rank - 1}:
        return output
    return source if all(d == 1 for d in list(shape)[1:-1]) else output


def names_in(quantized: ir.Graph, values: Sequence[ir.Value]) -> list[str]:
    """Where a quantized graph holds float values: behind the quantizer, if there is one.

    What an integer node makes can only be seen behind its quantizer.
    """
    made = {value.name: value for value in g.values(quantized)}
    return [_dequantized(made[value.name]).name or "" for value in values]


def _dequantized(value: ir.Value) -> ir.Value:
    quantizers = [use.node for use in value.uses() if use.node.op_type == "QuantizeLinear"]
    if len(quantizers) != 1 or value.is_graph_output():
        return value
    readers = [use.node for use in quantizers[0].outputs[0].uses()]
    is_read_back = len(readers) == 1 and readers[0].op_type == "DequantizeLinear"
    return readers[0].outputs[0] if is_read_back else value
