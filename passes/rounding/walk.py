"""The one walk through a quantized graph by which its layers are rounded and corrected."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qcompile.core.executor import Executor
from qcompile.core.plan import QuantPlan
from qcompile.core.units import Unit
from qcompile.passes.rounding.prefix import Piece, QuantizedPrefix


def walk(
    model: ir.Model,
    plan: QuantPlan,
    pieces: Sequence[Piece],
    executor: Executor,
    feeds: Sequence[Mapping[str, np.ndarray]],
    visit: Callable[[Unit, QuantizedPrefix], None],
    threads: int = 1,
    advance: Callable[[], None] = lambda: None,
    *,
    beside: QuantizedPrefix | None = None,
) -> None:
    """Run the samples through the quantized graph once, and stop before each unit.

    Args:
        model: the canonical float graph; not changed.
        plan: with all parameters set; ``visit`` may change what it says of the unit's own weight
            and bias, and the unit then runs as the plan says.
        pieces: of ``prefix.cut``.
        executor: runs the pieces, with exact integer sums.
        feeds: the samples.
        visit: is given each piece's unit, and the activations that it is about to read.
        threads: samples are spread over so many threads; no value depends on it.
        advance: called after each piece.
        beside: another graph of the same nodes, as the float one, that keeps step with it.
    """
    opsets = dict(model.graph.opset_imports)
    prefix = QuantizedPrefix(model.graph, plan, executor, feeds, threads, opsets)
    both = [prefix] if beside is None else [prefix, beside]
    for graph in both:
        graph.start(pieces)
    for index, piece in enumerate(pieces):
        if piece.unit is not None:
            visit(piece.unit, prefix)
        for graph in both:
            graph.run(pieces, index)
        advance()
