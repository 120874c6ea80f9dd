"""Where a quantized model parts from its float model: the SQNR of every layer's output."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

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
) -> list[LayerQuality]:
    """SQNR of each integer node's output over some samples, in graph order.

    Args:
        executor: runs both graphs.
        model: the canonical float graph.
        plan: says which outputs are quantized, and how.
        qdq: the QDQ graph, with float ends; it is run with exact integer sums.
        feeds: samples, as the float graph takes them.
        threads: samples in work at a time.
    """
    names = integer_names(qdq)
    watched = [u for u in units(model.graph, plan) if (u.output.name or "") in names]
    if not watched or not feeds:
        return []
    floats = executor.load(model, [u.output.name or "" for u in watched])
    integers = executor.load(qdq, [names[u.output.name or ""] for u in watched], exact=True)
    params = [plan.values[u.output.name or ""].params for u in watched]

    def one(feed: Feeds) -> np.ndarray:
        """Signal and noise energy of each layer, float64 (layers, 2)."""
        pairs = []
        for y, q, p in zip(floats.run(feed), integers.run(feed), params, strict=True):
            assert p is not None
            pairs.append(energies(y, dequantize(q, p.scale, p.zero_point)))
        return np.asarray(pairs)

    total = sum(ordered_map(one, feeds, threads), np.zeros((len(watched), 2)))
    return [
        LayerQuality(node=u.node.name or "", op=u.node.op_type, sqnr_db=sqnr_db(*row))
        for u, row in zip(watched, total.tolist(), strict=True)
    ]


def worst(layers: Sequence[LayerQuality], count: int = 5) -> tuple[LayerQuality, ...]:
    """The layers with the lowest SQNR, the worst first."""
    return tuple(sorted(layers, key=lambda layer: layer.sqnr_db)[:count])
