"""Which node becomes integer, which is absorbed, which stays float, and why."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.plan import TOKEN, NodePlan
from qcompile.core.target import InputRole, OpRule, Target
from qcompile.core.units import COMPUTE_OPS, output_channel_axis

_STANDARD = frozenset({"", "ai.onnx"})
"""Both spellings of ONNX's own domain."""

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

_PRODUCTS = frozenset({"MatMul", "Gemm"})
_LARGEST_CONSTANT = 1e8
"""A constant beyond this is a mask ("minus infinity"), not a number to share a grid with others."""


@dataclass(frozen=True)
class Assignment:
    """The mode of every node of a graph, keyed by node name, in graph order."""

    nodes: dict[str, NodePlan]

    def is_integer(self, node: ir.Node | None) -> bool:
        """Whether a node runs in integers, by itself or absorbed; one in a subgraph does not."""
        entry = self.nodes.get(node.name or "") if node is not None else None
        return entry is not None and entry.mode in {"integer", "absorbed"}


def assign_static(
    graph: ir.Graph,
    target: Target,
    float_nodes: Mapping[str, str],
    wide_nodes: Mapping[str, str] = NOTHING,
    dynamic_nodes: Mapping[str, str] = NOTHING,
) -> Assignment:
    """Modes for a scheme with static activation scales.

    1. A node is a candidate when the target has a rule for its op, the rule's conditions hold,
       and its inputs have the roles the rule names. Otherwise it is float, with the reason.
    2. A candidate's follower that its rule absorbs (Relu, Clip from 0, bias Add) is absorbed.
    3. Multiply-adds (``COMPUTE_OPS``) stay integer. The others follow their neighbours: an op that
       only moves integers needs an integer input; any other op needs its inputs to come from
       integer nodes and a reader that is integer (or the graph's end), since an island between
       floats pays a quantizer on every side and gains nothing. A node that becomes float has its
       neighbours looked at again.
    4. Nodes of ``wide_nodes`` take int16 activations, by the rules of ``target.wide``: those that
       have such a kernel and whose integer readers all take int16 as well. The others stay 8-bit.
    5. Nodes of ``dynamic_nodes`` quantize their activation as they run, where there is a kernel
       for it: to their neighbours they are float nodes.

    Args:
        graph: the canonical float graph.
        target: has the rules.
        float_nodes: node name -> why it must stay float.
        wide_nodes: node name -> why it should take int16 activations.
        dynamic_nodes: node name -> why it should find its scales as it runs.
    """
    dynamic = {
        name: replace(entry, chosen=True, reason=dynamic_nodes[name])
        for name, entry in assign_dynamic(graph, target, float_nodes).nodes.items()
        if name in dynamic_nodes and entry.mode == "dynamic"
    }
    float_nodes = {**dict.fromkeys(dynamic, ""), **float_nodes}
    wide = _closed(graph, target, float_nodes, wide_nodes)
    rules = _Rules(target, wide)
    nodes = {n.name or "": _candidate(n, rules.of(n), float_nodes) for n in graph}
    _absorb(graph, rules, nodes, float_nodes)
    assignment = Assignment(nodes)
    _demote_islands(graph, rules, assignment)
    for name in wide:
        if nodes[name].mode in {"integer", "absorbed"}:
            nodes[name] = replace(
                nodes[name], activations="int16", chosen=True, reason=wide_nodes[name]
            )
    nodes.update(dynamic)
    return assignment


@dataclass(frozen=True)
class _Rules:
    """The rules for each node: those of int16 activations for some."""

    target: Target
    wide: frozenset[str]

    def of(self, node: ir.Node) -> Target:
        """The target as it is for a node."""
        wide = self.target.wide if node.name in self.wide else None
        return self.target if wide is None else wide

    def rule(self, node: ir.Node) -> OpRule:
        """The rule of an integer node."""
        return self.of(node).ops[node.op_type]


def _closed(
    graph: ir.Graph, target: Target, float_nodes: Mapping[str, str], wanted: Mapping[str, str]
) -> frozenset[str]:
    """The largest part of the wanted nodes that can be wide: nothing leads from int16 back."""
    wide: set[str] = set()
    if target.wide is None:
        return frozenset()
    for node in reversed(list(graph)):
        name = node.name or ""
        if name not in wanted or _candidate(node, target.wide, float_nodes).mode != "integer":
            continue
        readers = [use.node for value in node.outputs for use in value.uses()]
        if all(
            r.name in wide or _candidate(r, target, float_nodes).mode == "float" for r in readers
        ):
            wide.add(name)
    return frozenset(wide)


def assign_dynamic(graph: ir.Graph, target: Target, float_nodes: Mapping[str, str]) -> Assignment:
    """Modes for activations that are quantized as the model runs; their weights are constant."""
    nodes: dict[str, NodePlan] = {}
    for node in graph:
        entry = _candidate(node, target, float_nodes)
        if entry.mode == "integer":
            why = _not_dynamic(node, target)
            by_token = target.dynamic_scales == "token"
            own = f"{target.activations.dtype}{TOKEN}" if by_token else ""
            entry = _float(node, why) if why else replace(entry, mode="dynamic", activations=own)
        nodes[entry.name] = entry
    return Assignment(nodes)


def _not_dynamic(node: ir.Node, target: Target) -> str | None:
    """Why a node that has an integer kernel has none that quantizes its activation, or None."""
    if not target.ops[node.op_type].dynamic:
        return f"{target.name} has no dynamic kernel for {node.op_type}"
    weight = g.constant(node.inputs[1])
    if weight is None:
        return "its second operand is computed, not a weight"
    if weight.ndim != 2 and node.op_type in _PRODUCTS:
        return f"its weight is of rank {weight.ndim}; the dynamic kernel takes a matrix"
    for key, allowed in target.ops[node.op_type].dynamic_where.items():
        attr = node.attributes.get(key)
        if attr is not None and _plain(attr) not in allowed:
            return (
                f"{target.name} has no dynamic kernel for {node.op_type} with {key}={_plain(attr)}"
            )
    if g.attribute_int(node, "transA", 0):
        return "the dynamic kernel does not transpose its activation"
    return None


def _float(node: ir.Node, reason: str) -> NodePlan:
    return NodePlan(node.name or "", node.op_type, "float", reason)


def _candidate(node: ir.Node, target: Target, float_nodes: Mapping[str, str]) -> NodePlan:
    name = node.name or ""
    if name in float_nodes:
        return replace(_float(node, float_nodes[name]), chosen=True)
    if g.STAYS_FLOAT_KEY in node.metadata_props:
        return _float(node, node.metadata_props[g.STAYS_FLOAT_KEY])
    if node.domain not in _STANDARD:
        return _float(node, f"{node.domain}.{node.op_type} has no integer form here")
    rule = target.rule(node.op_type)
    if rule is None:
        return _float(node, target.why_float(node.op_type))
    why = _condition(node, rule) or _operands(node, rule) or _outputs(node, rule)
    return _float(node, why) if why else NodePlan(name, node.op_type, "integer")


def _condition(node: ir.Node, rule: OpRule) -> str | None:
    """Why the rule's ``where`` or ``ranks`` excludes the node, or None."""
    for key, allowed in rule.where.items():
        attr = node.attributes.get(key)
        if attr is not None and _plain(attr) not in allowed:
            return rule.unless or f"{node.op_type} with {key}={_plain(attr)} has no integer kernel"
    rank = g.rank(node.inputs[0])
    if rule.ranks and rank is None:
        return f"the rank of its input {_name(node.inputs[0])} is not known"
    if rule.ranks and rank not in rule.ranks:
        return rule.unless or f"{node.op_type} of rank {rank} has no integer kernel"
    return None


def _plain(attr: ir.Attr) -> str | int | float:
    """An attribute as a target's TOML writes it; a list of integers as ``1,1``."""
    if attr.type == ir.AttributeType.INTS:
        return ",".join(str(i) for i in attr.as_ints())
    if attr.type == ir.AttributeType.STRING:
        return attr.as_string()
    return attr.as_float() if attr.type == ir.AttributeType.FLOAT else attr.as_int()


def _operands(node: ir.Node, rule: OpRule) -> str | None:
    """Why the inputs do not have the roles the rule names, or None."""
    computed = 0
    for index, value in enumerate(node.inputs):
        role = rule.role(index)
        if value is None or role == "other":
            continue
        if value.dtype != ir.DataType.FLOAT:
            type_ = "of unknown type" if value.dtype is None else str(value.dtype)
            return f"input {value.name} is {type_}, not float32"
        if 0 in (g.static_shape(value) or ()):
            return f"input {value.name} holds no elements"
        array = g.constant(value)
        why = _operand(role, array, rule, value) or (role == "bias" and _bias(node, value))
        if why:
            return why
        computed += array is None
    return None if computed else "all of its inputs are constant"


def _outputs(node: ir.Node, rule: OpRule) -> str | None:
    """Why the integer kernel does not give the outputs that are read, or None."""
    read = [bool(v.uses()) or v.is_graph_output() for v in node.outputs]
    if rule.outputs == "all":
        return None if all(read) else "one of its outputs is not read"
    return "its further outputs are read" if any(read[1:]) else None


def _operand(
    role: InputRole, array: np.ndarray | None, rule: OpRule, value: ir.Value
) -> str | None:
    if array is None:
        is_computed = role in {"weight", "bias"}
        return f"its {role} {value.name} is computed, not constant" if is_computed else None
    if role == "activation" and not rule.constants:
        return f"its operand {value.name} is constant"
    largest = max(float(array.max(initial=0.0)), -float(array.min(initial=0.0)))
    if not np.isfinite(largest):
        return f"its {role} {value.name} holds infinities or NaN"
    if role == "activation" and largest > _LARGEST_CONSTANT:
        return f"its operand {value.name} holds {largest:.1g}: next to that all else would be 0"
    return None


def _bias(node: ir.Node, bias: ir.Value) -> str | None:
    """Why a constant bias is no vector along the output channels (Gemm may add a matrix)."""
    weight, shape = g.static_shape(node.inputs[1]), g.static_shape(bias)
    axis = output_channel_axis(node, len(weight or ()))
    if weight is None or axis is None:
        return None
    group = g.attribute_int(node, "group", 1) if node.op_type == "ConvTranspose" else 1
    is_vector = shape == (weight[axis] * group,)
    return None if is_vector else f"its bias {bias.name} is not one number an output channel"


def _name(value: ir.Value | None) -> str:
    return (value.name if value is not None else None) or "?"


def _absorb(
    graph: ir.Graph, rules: _Rules, nodes: dict[str, NodePlan], float_nodes: Mapping[str, str]
) -> None:
    for node in graph:
        if nodes[node.name or ""].mode != "integer":
            continue
        rule, last = rules.rule(node), node
        while (follower := g.only_consumer(last.outputs[0])) is not None:
            name = follower.name or ""
            same_width = (name in rules.wide) == (node.name in rules.wide)
            if name in float_nodes or not same_width or not _can_absorb(follower, last, node, rule):
                break
            nodes[name] = NodePlan(name, follower.op_type, "absorbed", into=node.name)
            if follower.op_type != "Add":
                break  # behind a clamp nothing else can be absorbed
            last = follower


def _can_absorb(follower: ir.Node, last: ir.Node, root: ir.Node, rule: OpRule) -> bool:
    if follower.domain not in _STANDARD or follower.op_type not in rule.absorbs:
        return False
    return _CAN_ABSORB[follower.op_type](follower, last, root)


def _absorbs_relu(node: ir.Node, last: ir.Node, root: ir.Node) -> bool:
    return True


def _absorbs_clip(node: ir.Node, last: ir.Node, root: ir.Node) -> bool:
    """A clamp from 0: the quantizer's lowest integer stands for exactly 0, the highest for the
    observed maximum, which is at most the upper bound. Any other lower bound is not exact.
    """
    low = g.scalar(node.inputs[1]) if len(node.inputs) > 1 else None
    upper = node.inputs[2] if len(node.inputs) > 2 else None
    return low == 0.0 and (upper is None or g.scalar(upper) is not None)


def _absorbs_add(node: ir.Node, last: ir.Node, root: ir.Node) -> bool:
    """A constant vector along the output channels of a MatMul whose weight is constant."""
    if root.op_type != "MatMul" or last is not root:
        return False
    weight = g.constant(root.inputs[1])
    addend = next((a for v in node.inputs if (a := g.constant(v)) is not None), None)
    return (
        weight is not None
        and weight.ndim == 2
        and addend is not None
        and addend.shape == (weight.shape[1],)
    )


_CAN_ABSORB: dict[str, Callable[[ir.Node, ir.Node, ir.Node], bool]] = {
    "Relu": _absorbs_relu,
    "Clip": _absorbs_clip,
    "Add": _absorbs_add,
}


def _demote_islands(graph: ir.Graph, rules: _Rules, assignment: Assignment) -> None:
    """Make float what is an integer island between floats."""
    waiting = deque(graph)
    while waiting:
        node = waiting.popleft()
        entry = assignment.nodes.get(node.name or "")
        if entry is None or entry.mode != "integer" or node.op_type in COMPUTE_OPS:
            continue
        why = _island(node, rules.rule(node), assignment)
        if why:
            waiting.extend(_demote(node, why, assignment))


def _demote(node: ir.Node, why: str, assignment: Assignment) -> list[ir.Node]:
    """Make a node and what it absorbed float; the integer nodes that read or feed them."""
    absorbed = _absorbed_by(node, assignment)
    for follower in absorbed:
        assignment.nodes[follower.name or ""] = _float(
            follower, f"{node.op_type} before it is float"
        )
    assignment.nodes[node.name or ""] = _float(node, why)
    feeds = [v.producer() for v in node.inputs if v is not None]
    roots = [_root(producer, assignment) for producer in feeds if producer is not None]
    readers = [use.node for n in (node, *absorbed) for v in n.outputs for use in v.uses()]
    return [*roots, *readers]


def _root(node: ir.Node, assignment: Assignment) -> ir.Node:
    """The integer node that absorbed ``node``, or the node itself."""
    while (entry := assignment.nodes.get(node.name or "")) is not None and entry.into is not None:
        computed = (v for v in node.inputs if v is not None and v.const_value is None)
        node = next(p for v in computed if (p := v.producer()) is not None)
    return node


def _absorbed_by(node: ir.Node, assignment: Assignment) -> list[ir.Node]:
    found, last = [], node
    while (follower := g.only_consumer(last.outputs[0])) is not None:
        if assignment.nodes[follower.name or ""].into != node.name:
            break
        found.append(follower)
        last = follower
    return found


def _island(node: ir.Node, rule: OpRule, assignment: Assignment) -> str | None:
    inputs = [
        v
        for i, v in enumerate(node.inputs)
        if v is not None and rule.role(i) in {"activation", "operand"} and g.constant(v) is None
    ]
    for value in inputs:
        producer = value.producer()
        if producer is not None and not assignment.is_integer(producer):
            return f"its input {value.name} comes from {producer.op_type}, which is float"
    if rule.same_parameters:
        from_outside = all(v.producer() is None for v in inputs)
        return _no_integer_reader(node, assignment) if from_outside else None
    return _no_integer_reader(node, assignment)


def _no_integer_reader(node: ir.Node, assignment: Assignment) -> str | None:
    outputs = [f.outputs[0] for f in _absorbed_by(node, assignment)[-1:]] or list(node.outputs)
    for output in outputs:
        if output.is_graph_output() or any(assignment.is_integer(u.node) for u in output.uses()):
            return None
    return "everything that reads it is float"
