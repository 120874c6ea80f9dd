"""Last layers: multiply-adds behind which nothing but activations leads to an output.

Their errors are those of the output itself, and no later layer averages them out. It is small in
most networks (Zhou et al. 2016 and many since leave it alone).
"""

from typing import Final

import onnx_ir as ir

from qcompile.core.units import COMPUTE_OPS
from qcompile.passes.plan.patterns.pattern import Pattern, computed, in_order, pattern

NAME: Final = "last layer"
REASON: Final = "last layer: its errors are those of the output"


def find(graph: ir.Graph) -> list[Pattern]:
    """One pattern a layer: the multiply-adds that float outputs come of, with no other behind.

    A layer that also feeds another multiply-add (the features of a network that gives them out) is
    none.
    """
    seen: set[ir.Node] = set()
    last: list[ir.Node] = []
    outputs = [v for v in graph.outputs if v.dtype is None or v.dtype.is_floating_point()]
    waiting = [node for v in outputs if (node := v.producer()) is not None]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op_type in COMPUTE_OPS:
            last.append(node)
            continue
        waiting += [p for v in computed(node) if (p := v.producer()) is not None]
    inner = [node for node in last if not _feeds_a_layer(node)]
    return [pattern(NAME, REASON, [node], [node]) for node in in_order(graph, inner)]


def _feeds_a_layer(node: ir.Node) -> bool:
    seen: set[ir.Node] = set()
    waiting = [node]
    while waiting:
        for value in waiting.pop().outputs:
            for use in value.uses():
                if use.node.op_type in COMPUTE_OPS:
                    return True
                if use.node not in seen:
                    seen.add(use.node)
                    waiting.append(use.node)
    return False
