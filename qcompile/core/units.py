"""Units: an integer node together with the nodes that its kernel does as well.

A Conv whose output quantizer also clamps stands for ``Conv -> Relu``; a MatMul that adds a bias
stands for ``MatMul -> Add``. The plan marks those followers ``absorbed``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core.graph import attribute_int, constant, only_consumer, rank, static_shape
from qcompile.core.plan import QuantPlan
from qcompile.core.target import OpRule, Target

COMPUTE_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Ops that multiply and add: what quantization is for. All others follow their neighbours."""


@dataclass(frozen=True)
class Unit:
    """One integer node and its absorbed followers, in graph order."""

    node: ir.Node
    absorbed: tuple[ir.Node, ...]

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """All nodes of the unit."""
        return (self.node, *self.absorbed)

    @property
    def output(self) -> ir.Value:
        """The first output of the last node: the value that leaves the unit."""
        return self.nodes[-1].outputs[0]

    @property
    def bias(self) -> ir.Value | None:
        """The constant that is added per output channel: an input of the node or of its Add."""
        for follower in self.absorbed:
            if follower.op_type == "Add":
                return next((v for v in follower.inputs if constant(v) is not None), None)
        if self.node.op_type in {"Conv", "ConvTranspose", "Gemm"} and len(self.node.inputs) > 2:
            return self.node.inputs[2]
        return None

    @property
    def weight(self) -> ir.Value | None:
        """The constant weight of a compute node, if it has one."""
        if self.node.op_type not in COMPUTE_OPS:
            return None
        weight = self.node.inputs[1]
        return weight if constant(weight) is not None else None

    @property
    def channel_axis_of_output(self) -> int:
        """Axis of the output along which weight channels lie: 1 for Conv, the last for the rest."""
        return 1 if self.node.op_type in {"Conv", "ConvTranspose"} else -1


def units(graph: ir.Graph, plan: QuantPlan) -> Iterator[Unit]:
    """The integer and dynamic units of a planned graph, in graph order."""
    for node in graph:
        if plan.mode(node.name) in {"integer", "dynamic"}:
            yield unit_of(node, plan)


def rules_for(node: ir.Node, plan: QuantPlan, target: Target) -> Target:
    """The rules that hold for an integer node: those for int16 activations where it has them."""
    wide = target.wide if plan.is_wide(node.name) else None
    return target if wide is None else wide


def rule_for(node: ir.Node, plan: QuantPlan, target: Target) -> OpRule:
    """The rule of an integer node's op."""
    return rules_for(node, plan, target).ops[node.op_type]


def unit_of(node: ir.Node, plan: QuantPlan) -> Unit:
    """The unit that starts at ``node``."""
    absorbed: list[ir.Node] = []
    last = node
    while (follower := only_consumer(last.outputs[0])) is not None:
        entry = plan.nodes.get(follower.name or "")
        if entry is None or entry.mode != "absorbed" or entry.into != node.name:
            break
        absorbed.append(follower)
        last = follower
    return Unit(node, tuple(absorbed))


def output_channel_axis(node: ir.Node, weight_rank: int) -> int | None:
    """Axis of a weight along which its output channels lie; the one table of axes.

    Conv (M, C/group, k...): 0. ConvTranspose (C, M/group, k...): 1. Gemm (K, N): 1, or (N, K)
    with transB: 0. MatMul (..., K, N): the last axis, for rank 2 only (a batch of matrices has no
    axis that all kernels accept). None where there is no such axis.
    """
    match node.op_type:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1
        case "Gemm":
            attr = node.attributes.get("transB")
            return 0 if attr is not None and attr.as_int() else 1
        case "MatMul":
            return 1 if weight_rank == 2 else None
        case _:
            return None


def weight_index(node: ir.Node) -> int | None:
    """The input of a node that is a weight, or a matrix that it looks rows up in; None without."""
    if node.op_type in COMPUTE_OPS:
        return 1
    is_rows = node.op_type == "Gather" and not attribute_int(node, "axis", 0)
    return 0 if is_rows and rank(node.inputs[0]) == 2 else None


def is_point(node: ir.Node) -> bool:
    """Whether a node is a Conv of one tap and one group on a picture of one position.

    Padding would make more positions of it.
    """
    if node.op_type != "Conv" or attribute_int(node, "group", 1) != 1:
        return False
    kernel = (static_shape(node.inputs[1]) or ())[2:]
    x, y = (value.shape for value in (node.inputs[0], node.outputs[0]) if value is not None)
    if not kernel or x is None or y is None:
        return False
    return all(d == 1 for d in (*kernel, *list(x)[2:], *list(y)[2:]))
