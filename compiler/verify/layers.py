"""Where a quantized model parts from its float model: the SQNR of every layer's output."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qcompile.compiler.quantizing import quantize
from qcompile.compiler.report.model import LayerQuality
from qcompile.compiler.verify.coverage import integer_names
from qcompile.compiler.verify.metrics import energies, sqnr_db
from qcompile.core.executor import Executor, Feeds
from qcompile.core.numerics.affine import dequantize
from qcompile.core.parallel import ordered_map
from qcompile.core.plan import QuantPlan
from qcompile.core.units import units


def layer_quality(
    executor: Executor,
    model: ir.Model,
    plan: QuantPlan,
    qdq: ir.Model,
    feeds: Sequence[Feeds],
    *,
    threads: int = 1,
    own: QuantPlan | None = None,
) -> list[LayerQuality]:
    """SQNR of each integer node's output over some samples, in graph order.

    Args:
        executor: runs both graphs.
        model: the canonical float graph.
        plan: says which outputs are quantized, and how.
        qdq: the QDQ graph, with float ends; it is run with exact integer sums.
        feeds: samples, as the float graph takes them.
        threads: samples in work at a time.
        own: the quantizers that the model came with; then it is held against the model with them.
            Without them it is another function: they cut off what is beyond their ranges.
    """
    names = integer_names(qdq)
    watched = [u for u in units(model.graph, plan) if (u.output.name or "") in names]
    if not watched or not feeds:
        return []
    made = [u.output.name or "" for u in watched]
    integers = executor.load(qdq, [names[name] for name in made], exact=True)
    floats, known = executor.load(model, made), QuantPlan("", "", "")
    if own is not None:
        given = quantize(model, own)
        stored, known = integer_names(given), own
        floats = executor.load(given, [stored.get(name, name) for name in made], exact=True)

    def one(feed: Feeds) -> np.ndarray:
        """Signal and noise energy of each layer, float64 (layers, 2)."""
        pairs = []
        for name, y, q in zip(made, floats.run(feed), integers.run(feed), strict=True):
            pairs.append(energies(_real(y, known, name), _real(q, plan, name)))
        return np.asarray(pairs)

    total = sum(ordered_map(one, feeds, threads), np.zeros((len(watched), 2)))
    return [
        LayerQuality(node=u.node.name or "", op=u.node.op_type, sqnr_db=sqnr_db(*row))
        for u, row in zip(watched, total.tolist(), strict=True)
    ]


def _real(found: np.ndarray, plan: QuantPlan, name: str) -> np.ndarray:
    """What a value stands for, of which a plan says so if it is integers."""
    entry = plan.quantized(name)
    if entry is None or entry.params is None:
        return found
    return dequantize(found, entry.params.scale, entry.params.zero_point)


def worst(layers: Sequence[LayerQuality], count: int = 5) -> tuple[LayerQuality, ...]:
    """The layers with the lowest SQNR, the worst first; none that are exact."""
    parted = (layer for layer in layers if layer.sqnr_db < np.inf)
    return tuple(sorted(parted, key=lambda layer: layer.sqnr_db)[:count])
