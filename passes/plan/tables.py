"""Which embeddings are stored in integers, with which scales."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import dequantize, quantize, symmetric_params
from qcompile.core.plan import NodePlan, QuantParams, QuantPlan, ValuePlan
from qcompile.core.target import Target

FEWEST: Final = 1 << 12
"""Elements that a table must have for its bytes to matter."""

ENOUGH_DB: Final = 32.0
"""The SQNR that a row must keep, at the median: that of the 8-bit activations that follow."""

DTYPE: Final = "int8"


@dataclass
class KnownTables:
    """Entries of tables that were looked at before: several plans of one model share its tensors.

    A tensor is held beside its entry, so that no other one can take its place in memory.
    """

    _of: dict[int, tuple[ir.TensorProtocol, ValuePlan]] = field(default_factory=dict)

    def entry(self, value: ir.Value, table: np.ndarray) -> ValuePlan:
        """The entry of a constant matrix."""
        tensor, name = value.const_value, value.name or ""
        assert tensor is not None
        if id(tensor) not in self._of:
            self._of[id(tensor)] = (tensor, _entry(name, table))
        return replace(self._of[id(tensor)][1], name=name)


def plan_tables(
    graph: ir.Graph,
    plan: QuantPlan,
    target: Target,
    float_nodes: Mapping[str, str],
    known: KnownTables | None = None,
) -> None:
    """Store the tables that embeddings are read from in 8 bits, one scale a column.

    Matched: a Gather along axis 0 of a constant float matrix that stays float in the plan, where
    the target can read rows of integers. Its mode becomes ``table`` and its matrix gets an entry.
    Scales follow the columns (axis 1), since the rows that were read are dequantized behind the
    Gather, by one DequantizeLinear along their last axis.

    Left float: small tables, what must stay float, a table that would keep less than ``ENOUGH_DB``.

    Args:
        graph: the canonical float graph.
        plan: its nodes have their modes.
        target: says whether there is such a kernel.
        float_nodes: node name -> why it must stay float.
        known: remembers entries from one plan to the next.
    """
    known = KnownTables() if known is None else known
    for node in table_candidates(graph, target):
        name = node.name or ""
        if plan.mode(name) != "float" or name in float_nodes:
            continue
        table, value = g.constant(node.inputs[0]), node.inputs[0]
        assert table is not None and value is not None
        entry = plan.values.get(value.name or "") or known.entry(value, table)
        if entry.role != "weight" or entry.axis != 1 or not entry.reason:
            continue
        plan.values[entry.name] = entry
        plan.nodes[name] = NodePlan(name, node.op_type, "table", f"its table keeps {entry.reason}")


def table_candidates(graph: ir.Graph, target: Target) -> Iterator[ir.Node]:
    """The nodes that read rows of a constant float matrix, where the target has a kernel."""
    for node in graph:
        rule = target.rule(node.op_type)
        if rule is None or not rule.table or node.op_type != "Gather":
            continue
        table = g.constant(node.inputs[0])
        if table is None or table.ndim != 2 or table.dtype != np.float32 or table.size < FEWEST:
            continue
        if g.attribute_int(node, "axis", 0) == 0 and g.constant(node.inputs[1]) is None:
            yield node


def _entry(name: str, table: np.ndarray) -> ValuePlan:
    """The entry of a table; without a reason where too little would be kept of it."""
    absmax = np.maximum(table.max(axis=0), -table.min(axis=0))
    params = QuantParams(*symmetric_params(absmax, DTYPE))
    kept = _kept(table, params)
    reason = f"{kept:.0f} dB with a scale a column" if kept >= ENOUGH_DB else ""
    return ValuePlan(
        name, "weight", DTYPE, "channel", 1, symmetric=True, params=params, rule="absmax",
        reason=reason,
    )  # fmt: skip


def _kept(table: np.ndarray, params: QuantParams) -> float:
    """SQNR in dB of the median row: a row is what is read at a time."""
    error = dequantize(
        quantize(table, params.scale, params.zero_point, DTYPE, 1), params.scale,
        params.zero_point, 1,
    )  # fmt: skip
    error -= table
    noise = np.einsum("rc,rc->r", error, error, dtype=np.float64)
    signal = np.einsum("rc,rc->r", table, table, dtype=np.float64)
    alive = signal > 0
    if not alive.any():
        return 0.0
    share = float(np.median(noise[alive] / signal[alive]))
    return 200.0 if share == 0 else -10 * float(np.log10(share))
