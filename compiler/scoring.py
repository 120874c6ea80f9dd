"""How good a plan is, by the outputs of the model on samples that took no part in making it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from qcompile.compiler.quantizing import quantize
from qcompile.compiler.verify.metrics import output_terms, sqnr_db
from qcompile.core import graph as g
from qcompile.core.executor import Executor, Session
from qcompile.core.parallel import ordered_map
from qcompile.core.plan import QuantPlan

Feeds = Mapping[str, np.ndarray]

CACHED_BYTES = 64 << 20
"""Float outputs up to this size are kept from one score to the next."""

BEST_DB = 100.0
"""An output that is closer than this counts as this close: float32 carries no more."""


@dataclass(frozen=True)
class _Watched:
    """One value by which plans are judged."""

    value: ir.Value
    centred: bool
    """Only differences along the last axis count, since a Softmax is all that reads it."""


class Scorer:
    """Scores plans for one model.

    The score is the SQNR in dB over all samples, as a mean over the float outputs. The output of a
    Softmax that ranks the classes of a whole sample is judged by what goes into it, less its mean:
    probabilities near 0 and 1 hide most of what happens to the logits. Where a Softmax gives many
    rows a sample (a detector's scores), the probabilities themselves count, and so the few that
    are sure.

    Args:
        model: the canonical float graph.
        executor: runs float and quantized graphs, with exact integer sums.
        feeds: held-out calibration samples; few, since they are held in memory.
        threads: samples in work at a time; no score depends on it.
    """

    def __init__(
        self, model: ir.Model, executor: Executor, feeds: Sequence[Feeds], threads: int
    ) -> None:
        self.feeds = feeds
        self._model, self._executor, self._threads = model, executor, threads
        self._watched = _watched(model.graph)
        self._session: Session | None = None
        self._cached: list[list[np.ndarray]] | None = None

    def score(self, plan: QuantPlan, model: ir.Model | None = None) -> float:
        """Mean SQNR in dB of a plan, each output at most ``BEST_DB``; 0 without float outputs.

        Args:
            plan: with all parameters set.
            model: the graph the plan is laid on, where it is not the float graph itself but one
                of the same function and names (a transformed one).
        """
        quantized = quantize(model or self._model, replace(plan, ends="float"))
        return self.of_graph(quantized)

    def of_graph(self, quantized: ir.Model, *, optimize: bool = True) -> float:
        """Mean SQNR of any graph with the float graph's names.

        ``optimize=False`` for graphs that leave weights float between quantized activations, which
        ONNX Runtime's optimizer changes.
        """
        if not self._watched or not self.feeds:
            return 0.0
        names = _names_in(quantized.graph, self._watched)
        candidate = self._executor.load(quantized, names, exact=True, optimize=optimize)
        self._reference(0)  # before the threads, so that it is loaded once

        def one(index: int) -> np.ndarray:
            pairs = zip(
                self._watched, self._reference(index), candidate.run(self.feeds[index]), strict=True
            )
            return np.stack([_energies(w, y, z) for w, y, z in pairs])

        total = sum(
            ordered_map(one, range(len(self.feeds)), self._threads),
            np.zeros((len(self._watched), 2)),
        )
        return float(np.mean([min(sqnr_db(*row), BEST_DB) for row in total.tolist()]))

    def _reference(self, index: int) -> list[np.ndarray]:
        """The float graph's outputs for a sample; kept, unless all of them are too large."""
        if self._session is None:
            names = [w.value.name or "" for w in self._watched]
            self._session = self._executor.load(self._model, names)
            first = self._session.run(self.feeds[0])
            if sum(y.nbytes for y in first) * len(self.feeds) <= CACHED_BYTES:
                run = self._session.run
                rest = ordered_map(
                    lambda i: run(self.feeds[i]), range(1, len(self.feeds)), self._threads
                )
                self._cached = [first, *rest]
        return self._session.run(self.feeds[index]) if self._cached is None else self._cached[index]


def _energies(watched: _Watched, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Energy of the signal and of the noise, float64 (2,)."""
    if watched.centred:
        y, z = (a - a.mean(axis=-1, keepdims=True, dtype=np.float64) for a in (y, z))
    return output_terms(y, z).sums[:2]


def _watched(graph: ir.Graph) -> list[_Watched]:
    found: dict[ir.Value, _Watched] = {}
    for output in graph.outputs:
        if output.dtype is not None and output.dtype.is_floating_point():
            logits = _logits(output)
            value = output if logits is None else logits
            found.setdefault(value, _Watched(value, logits is not None))
    return list(found.values())


def _logits(output: ir.Value) -> ir.Value | None:
    """What a Softmax that gives one row a sample reads; None for every other output."""
    node = output.producer()
    if node is None or node.op_type not in {"Softmax", "LogSoftmax"}:
        return None
    source, shape = node.inputs[0], output.shape
    rank = g.rank(output)
    if source is None or rank is None or shape is None or source.is_graph_input():
        return None
    if g.attribute_int(node, "axis", -1) not in {-1, rank - 1}:
        return None
    return source if all(d == 1 for d in list(shape)[1:-1]) else None


def _names_in(quantized: ir.Graph, watched: Sequence[_Watched]) -> list[str]:
    """Where a quantized graph holds the watched values: behind the quantizer, if there is one.

    What an integer node makes can only be seen behind its quantizer.
    """
    values = {value.name: value for value in g.values(quantized)}
    return [_dequantized(values[w.value.name]).name or "" for w in watched]


def _dequantized(value: ir.Value) -> ir.Value:
    quantizers = [use.node for use in value.uses() if use.node.op_type == "QuantizeLinear"]
    if len(quantizers) != 1 or value.is_graph_output():
        return value
    readers = [use.node for use in quantizers[0].outputs[0].uses()]
    is_read_back = len(readers) == 1 and readers[0].op_type == "DequantizeLinear"
    return readers[0].outputs[0] if is_read_back else value
