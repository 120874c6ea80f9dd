"""Stored weights in graph order, those that read the same value together, and what they read.

The calibration samples go through the graph once, portion by portion; their activations are held
only where the next portion begins. Beside the float graph a second one goes along whose weights
are those that were chosen so far: a portion sees what it will really read, and can make good for
what the portions before it did.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from qcompile.core.executor import Executor
from qcompile.core.memory import give_back
from qcompile.core.plan import QuantPlan
from qcompile.core.stored import Stored, as_columns, stored_weights
from qcompile.passes.rounding.prefix import Piece, QuantizedPrefix

Rows = Callable[[int, np.ndarray], np.ndarray]
"""Number of a sample and a value (..., K) of it -> the rows (rows, K) of it that count."""


@dataclass(frozen=True)
class Portion:
    """Weights that are rounded together, since they read the same value."""

    value: str
    """Name of what they read."""
    layers: tuple[Stored, ...]

    @property
    def rows(self) -> int:
        """K."""
        return self.layers[0].rows


def portions(graph: ir.Graph, plan: QuantPlan) -> list[Portion]:
    """The products of a plan whose weights are stored, by what they read, in graph order."""
    found: dict[str, list[Stored]] = {}
    known = set()  # a weight that several products read is rounded for the first of them
    for stored in stored_weights(graph, plan):
        source = stored.node.inputs[0]
        if stored.is_table or source is None or stored.name in known:
            continue
        known.add(stored.name)
        found.setdefault(source.name or "", []).append(stored)
    return [Portion(value, tuple(layers)) for value, layers in found.items()]


@dataclass(frozen=True, eq=False)
class Seen:
    """What a portion reads, over some rows: X in the float graph, Y in the one that ships."""

    gram: np.ndarray
    """``Y^T Y / rows``, float32 (K, K)."""
    drift: np.ndarray | None
    """``Y^T (X - Y) / rows``, float32 (K, K); None where nothing before was rounded."""
    rows: int

    def ridged(self, share: float) -> "Seen":
        """With a share of the mean diagonal added: errors of weights count by themselves too."""
        added = share * float(np.mean(np.diagonal(self.gram)))
        return replace(self, gram=self.gram + np.float32(added) * np.eye(len(self.gram), dtype="f"))


class Streams:
    """Two graphs that go through the portions in step.

    Args:
        model: the canonical float graph; not changed.
        found: its portions.
        executor: runs the pieces.
        feeds: samples, all held at once.
        rows: which rows of a sample count (not those of padding).
        drifting: whether the second graph goes along.
        threads: samples in work at a time; no result depends on it.
    """

    def __init__(
        self,
        model: ir.Model,
        found: Sequence[Portion],
        executor: Executor,
        feeds: Sequence[Mapping[str, np.ndarray]],
        rows: Rows,
        *,
        drifting: bool,
        threads: int,
    ) -> None:
        self._portions, self._rows = found, rows
        self._clone = model.clone() if drifting else None
        bare = QuantPlan("", "", "float")
        graphs = [model.graph] if self._clone is None else [model.graph, self._clone.graph]
        opsets = dict(model.graph.opset_imports)
        self._streams = []
        self._piece_of: dict[str, int] = {}
        for graph in graphs:
            pieces = _cut(graph, found)
            for i, piece in enumerate(pieces):
                self._piece_of.update((node.name or "", i) for node in piece.nodes)
            stream = QuantizedPrefix(graph, bare, executor, feeds, threads, opsets)
            stream.start(pieces)
            self._streams.append((stream, pieces))
        self._floats: dict[str, tuple[int, ir.TensorProtocol | None]] = {}
        """Weight that was changed -> the piece that reads it, and its floats."""
        self._at = 0

    def reach(self, index: int) -> None:
        """Run both graphs up to the portion of this number."""
        while self._at <= index:
            for stream, pieces in self._streams:
                stream.run(pieces, self._at)
            self._at += 1
        if self._clone is None:
            return
        for name, (piece, tensor) in list(self._floats.items()):
            if piece < self._at:  # it was run, and the floats take no memory of their own
                self._clone.graph.initializers[name].const_value = tensor
                del self._floats[name]
        give_back()  # graphs of pieces are cycles, and hold weights that nobody else does any more

    def seen(self, index: int, samples: range) -> Seen:
        """What a portion reads, over these samples; it must be the one that was reached."""
        name = self._portions[index].value
        float_values, _ = self._streams[0][0].stored(name)
        values, _ = self._streams[-1][0].stored(name)
        depth = self._portions[index].rows
        gram = np.zeros((depth, depth))
        is_behind = self._clone is not None and index > 0
        drift = np.zeros((depth, depth)) if is_behind else None
        count = 0
        for i in samples:
            y = np.asarray(self._rows(i, values[i]), np.float32)
            gram += y.T @ y
            count += len(y)
            if drift is not None:
                x = np.asarray(self._rows(i, float_values[i]), np.float32)
                drift += y.T @ (x - y)
        share = 1.0 / max(count, 1)
        return Seen(
            (gram * share).astype(np.float32),
            None if drift is None else (drift * share).astype(np.float32),
            count,
        )

    def put(self, index: int, weights: Mapping[str, np.ndarray]) -> None:
        """Give the second graph the weights that were chosen for a portion, (K, N) each.

        It reads its input without factors: they are not in these weights either.
        """
        if self._clone is None:
            return
        for stored in self._portions[index].layers:
            value = self._clone.graph.initializers[stored.name]
            array = np.ascontiguousarray(as_columns(weights[stored.name], stored.axis))
            piece = self._piece_of.get(stored.node.name or "", len(self._portions))
            self._floats.setdefault(stored.name, (piece, value.const_value))
            value.const_value = ir.tensor(array, name=stored.name)


def _cut(graph: ir.Graph, found: Sequence[Portion]) -> list[Piece]:
    """Pieces that end where each portion begins, and one with the last portion's products.

    A product reads its value in the piece behind the one that makes it, so that the value is held
    when its portion is reached.
    """
    starts = {portion.layers[0].node.name: i for i, portion in enumerate(found)}
    pieces: list[list[ir.Node]] = [[]]
    for node in graph:
        if node.name in starts:
            pieces.append([])
        pieces[-1].append(node)
        if starts.get(node.name) == len(found) - 1:
            break
    return [Piece(tuple(nodes), None) for nodes in pieces]
