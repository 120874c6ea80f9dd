"""One place in a graph where a pattern was found."""

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core import graph as g


@dataclass(frozen=True)
class Pattern:
    """Nodes of a graph that are known by a name, and what is known of them."""

    name: str
    nodes: tuple[str, ...]
    """Names of the nodes, in graph order."""
    reason: str
    """Why they can lose in 8 bits: one sentence for the report."""
    eased: tuple[str, ...] = ()
    """Those of them that are worth leaving float, if anything is; empty where nothing is known to
    help."""


def pattern(name: str, reason: str, nodes: Iterable[ir.Node], eased: Iterable[ir.Node]) -> Pattern:
    """A pattern of nodes of one graph."""
    return Pattern(name, _names(nodes), reason, _names(eased))


def computed(node: ir.Node) -> list[ir.Value]:
    """The different inputs of a node that are not constant."""
    return [v for v in dict.fromkeys(node.inputs) if v is not None and g.constant(v) is None]


def in_order(graph: ir.Graph, nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Nodes in graph order, each once."""
    wanted = set(nodes)
    return [node for node in graph if node in wanted]


def _names(nodes: Iterable[ir.Node]) -> tuple[str, ...]:
    return tuple(node.name or "" for node in nodes)
