"""The layers that may be left float, each as one choice: what hangs together is chosen together."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.macs import macs
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target
from qcompile.core.units import COMPUTE_OPS, Unit, units


@dataclass(frozen=True)
class Group:
    """One layer as a choice between integer and float."""

    name: str
    """Of its first node."""
    op: str
    nodes: tuple[str, ...]
    """Names of all of its nodes."""
    macs: int
    """Multiply-adds of one run."""
    weights: int
    """Elements of its constant weight."""
    structure: str
    """Equal for layers of equal op, attributes and shapes: they take equally long."""


def groups(graph: ir.Graph, plan: QuantPlan, target: Target) -> list[Group]:
    """The layers of a planned graph among which to choose, in graph order.

    1. A multiply-add with what it absorbed is a choice of its own, and so is any other integer
       unit that computes with its numbers.
    2. An op that only moves integers is none: it costs no accuracy, and follows its producer
       when that becomes float. One that brings several values onto one scale is (Concat).
    """
    return [_group(unit) for unit in _choices(graph, plan, target)]


def _choices(graph: ir.Graph, plan: QuantPlan, target: Target) -> Iterator[Unit]:
    for unit in units(graph, plan):
        rule = target.ops[unit.node.op_type]
        computed = {v for v in unit.node.inputs if v is not None and g.constant(v) is None}
        if unit.node.op_type in COMPUTE_OPS or not rule.same_parameters or len(computed) > 1:
            yield unit


def _group(unit: Unit) -> Group:
    weight = g.constant(unit.weight)
    return Group(
        unit.node.name or "",
        unit.node.op_type,
        tuple(node.name or "" for node in unit.nodes),
        sum(macs(node) for node in unit.nodes),
        0 if weight is None else int(weight.size),
        _structure(unit),
    )


def _structure(unit: Unit) -> str:
    parts: list[object] = []
    for node in unit.nodes:
        attributes = sorted((key, str(attr.value)) for key, attr in node.attributes.items())
        shapes = [None if v is None else str(v.shape) for v in (*node.inputs, *node.outputs)]
        parts += [node.op_type, attributes, shapes]
    return str(parts)
