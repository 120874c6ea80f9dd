"""What a plan stores in integers, as the report shows it."""

import onnx_ir as ir

from qcompile.compiler.report.stored import StoredLayer, StoredWeights
from qcompile.core.numerics.affine import bit_width
from qcompile.core.plan import QuantPlan, Shared, ValuePlan
from qcompile.core.stored import Stored, stored_weights
from qcompile.passes.quantize.insert_stored import CONTAINERS

_BITS_OF_A_SCALE = 32


def stored_report(model: ir.Model, plan: QuantPlan) -> StoredWeights | None:
    """Every matrix that a plan stores in integers; None for a plan that stores none.

    Args:
        model: the canonical float graph.
        plan: complete.
    """
    layers, seen = [], set()
    for stored in stored_weights(model.graph, plan):
        entry = plan.quantized(stored.name)
        if entry is None or entry.params is None:
            continue
        again = stored.name in seen
        seen.add(stored.name)
        layers.append(_layer(stored, entry, again=again))
    if not layers:
        return None
    floats = sum(
        value.const_value.size
        for graph in model.graphs()
        for name, value in graph.initializers.items()
        if name not in seen
        and value.const_value is not None
        and value.const_value.dtype.is_floating_point()
    )
    return StoredWeights(layers=tuple(layers), float_elements=floats)


def _layer(stored: Stored, entry: ValuePlan, *, again: bool) -> StoredLayer:
    tied = ""
    if isinstance(entry.relation, Shared):
        tied = entry.relation.leader
    elif again:
        tied = stored.name
    return StoredLayer(
        node=stored.node.name or "",
        op=stored.node.op_type,
        weight=stored.name,
        elements=stored.rows * stored.columns,
        bits=bit_width(entry.dtype),
        group=entry.group,
        symmetric=entry.symmetric,
        bits_per_weight=0.0 if tied else bits_per_weight(entry, stored.rows),
        rule=entry.rule,
        reason=entry.reason,
        tied=tied,
    )


def bits_per_weight(entry: ValuePlan, rows: int) -> float:
    """Bits of a number in a column of K ``rows``: its container's, and its share of its group's."""
    assert entry.params is not None
    container = CONTAINERS.get(entry.dtype, entry.dtype)
    own = int(container.removeprefix("uint"))
    per_group = _BITS_OF_A_SCALE + (0 if entry.symmetric else own)
    return own + per_group * int(entry.params.scale.shape[0]) / rows
