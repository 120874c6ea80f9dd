"""Groups of values that carry equal parameters, around ops that only move integers.

With ``x_i`` the inputs and ``y`` the outputs of such an op, all are to have one scale and one zero
point. An input whose parameters are set cannot follow the others (a softmax's kernel sets its own;
what int16 nodes read of an 8-bit value takes after that value):

1. One input, or several with equal set parameters: the outputs take after it, set or not.
2. Some inputs are set and others are not: those that are not form the group, with the outputs; the
   set ones are requantized at the border. The outputs are measured, since the group must also hold
   what comes in over the border.
3. All inputs are set, unequally: the outputs take parameters of their own, and are measured.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.plan import Fixed, QuantParams, QuantPlan, Shared, Widened
from qcompile.core.target import OpRule, Target
from qcompile.core.units import rule_for


def share(node: ir.Node, inputs: Sequence[str], outputs: Sequence[str], plan: QuantPlan) -> None:
    """Tie the inputs and outputs of an op that moves integers, by the rules above.

    ``inputs`` and ``outputs`` are names of entries.
    """
    free = [name for name in inputs if not _is_set(name, plan)]
    leader = (free or inputs)[0]
    if not free and not _are_equal(inputs, plan):
        return
    for name in (*free, *outputs):
        _follow(name, leader, node, plan)


def root(name: str, plan: QuantPlan) -> str:
    """The value at the head of the chain of leaders; itself when it shares with none."""
    while (entry := plan.values.get(name)) is not None and isinstance(entry.relation, Shared):
        name = entry.relation.leader
    return name


def is_moved(value: ir.Value, plan: QuantPlan, target: Target) -> bool:
    """Whether a value holds nothing that its group has not seen already, so needs no range.

    Its group is set, or it comes from an op that moves integers and whose inputs are all in the
    group; a Pad may bring in a number of its own.
    """
    node = value.producer()
    if _is_set(value.name or "", plan):
        return True
    if node is None or plan.mode(node.name) != "integer":
        return False
    rule = rule_for(node, plan, target)
    if not rule.same_parameters or _pads_with_a_number(node):
        return False
    name = root(value.name or "", plan)
    read = (plan.seen_by(node.name, v.name) for v in _moved_inputs(node, rule))
    return all(root(one, plan) == name for one in read)


def flatten_shares(plan: QuantPlan) -> None:
    """Point every shared value at the value that leads the whole chain."""
    for name, entry in list(plan.values.items()):
        if isinstance(entry.relation, Shared):
            plan.values[name] = replace(entry, relation=Shared(root(name, plan)))


def resolve_shared(plan: QuantPlan) -> None:
    """Give every shared value its leader's parameters, and what int16 nodes read of it theirs."""
    _copy_leaders(plan)
    for name, entry in list(plan.values.items()):
        if isinstance(entry.relation, Widened):
            source = plan.values[entry.relation.source].params
            if source is not None:
                plan.values[name] = entry.with_params(widened(source))
    _copy_leaders(plan)  # of those, in turn


def widened(source: QuantParams) -> QuantParams:
    """The parameters of what int16 nodes read of an 8-bit value (``core.plan.Widened``)."""
    scale = (source.scale / np.float32(128)).astype(np.float32)
    return QuantParams(scale, np.zeros(scale.shape, np.int64))


def _copy_leaders(plan: QuantPlan) -> None:
    for name, entry in list(plan.values.items()):
        if isinstance(entry.relation, Shared):
            params = plan.values[entry.relation.leader].params
            if params is not None:
                plan.values[name] = entry.with_params(params)


def _follow(value: str, leader: str, node: ir.Node, plan: QuantPlan) -> None:
    """Let all that shares with ``value`` take after what leads ``leader``."""
    name, head = root(value, plan), root(leader, plan)
    entry = plan.values.get(name)
    if entry is None or name == head or isinstance(entry.relation, Fixed | Widened):
        return
    reason = f"{node.op_type} only moves integers"
    plan.values[name] = replace(entry, relation=Shared(head), rule="shared", reason=reason)


def _is_set(name: str, plan: QuantPlan) -> bool:
    """Whether the parameters of an entry, or of its leader, are set and follow no group."""
    entry = plan.values.get(root(name, plan))
    return entry is not None and isinstance(entry.relation, Fixed | Widened)


def _are_equal(names: Sequence[str], plan: QuantPlan) -> bool:
    """Whether entries whose parameters are set have the same."""
    roots = [root(name, plan) for name in names]
    if len(set(roots)) == 1:
        return True
    entries = [plan.values[name] for name in roots]
    first = entries[0].params
    return first is not None and all(e.params and first.same_as(e.params) for e in entries)


def _moved_inputs(node: ir.Node, rule: OpRule) -> list[ir.Value]:
    return [
        value
        for index, value in enumerate(node.inputs)
        if value is not None and rule.role(index) == "activation"
    ]


def _pads_with_a_number(node: ir.Node) -> bool:
    if node.op_type != "Pad" or len(node.inputs) < 3 or node.inputs[2] is None:
        return False
    return g.scalar(node.inputs[2]) != 0.0
