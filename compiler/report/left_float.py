"""What stayed float and why, in as few rows as say it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from qcompile.compiler.report.page import Table, listed
from qcompile.compiler.report.stored import NO_WEIGHT, without_weights

if TYPE_CHECKING:
    from qcompile.compiler.report.model import FloatNode

MOST_OPS: Final = 4
"""More ops than these that share a reason share a row."""


def left_float(nodes: Sequence["FloatNode"]) -> list[Table]:
    """Nodes that stayed float, a row for each op and reason, or for a reason that many ops have."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for node in nodes:
        if not node.reason.endswith(NO_WEIGHT):
            names = reasons.setdefault(_why(node), {}).setdefault(node.op, [])
            names.append(listed(node.sources or (node.name,), limit=2))
    rows = [row for reason, ops in reasons.items() for row in _rows(reason, ops)]
    if idle := without_weights(nodes):
        ops = listed(sorted({node.op for node in idle}), limit=6)
        rows.append(("others", str(len(idle)), f"each {NO_WEIGHT}", ops))
    header = ("op", "nodes", "reason", "which")
    return [Table("Left float", header, tuple(rows), right=(1,))] if rows else []


def _rows(reason: str, ops: dict[str, list[str]]) -> list[tuple[str, str, str, str]]:
    if len(ops) > MOST_OPS:
        names = [name for of_op in ops.values() for name in of_op]
        return [(listed(list(ops)), str(len(names)), reason, listed(names, limit=2))]
    return [(op, str(len(names)), reason, listed(names, limit=2)) for op, names in ops.items()]


def _why(node: "FloatNode") -> str:
    """The reason, and what the node is a part of unless the reason names that."""
    if not node.pattern or node.reason.startswith(node.pattern):
        return node.reason
    return f"{node.reason}; part of {node.pattern}"
