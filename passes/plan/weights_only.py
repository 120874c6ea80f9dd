"""Which weights are stored in integers where activations stay float, and in what groups."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.errors import Code, QCompileError
from qcompile.core.graph import STAYS_FLOAT_KEY
from qcompile.core.plan import NodePlan, QuantPlan, Shared, ValuePlan
from qcompile.core.stored import Stored, same_numbers, stored_weight
from qcompile.core.target import Numbers, OpRule, Target

FEWEST: Final = 1 << 10
"""Elements that a weight must have for its bytes to matter."""

USUAL_GROUP: Final = {8: 64}
"""Bits of a weight -> elements that share a scale where nothing was asked for."""

_USUAL_ELSE: Final = 32


def plan_weights_only(
    graph: ir.Graph,
    plan: QuantPlan,
    target: Target,
    float_nodes: Mapping[str, str],
    bits: int,
    *,
    group: int | None,
    granularity: str | None,
    symmetric: bool | None,
) -> None:
    """Give every node a mode, and every matrix that is to be stored in integers an entry.

    1. ``weights``: a node that reads a constant matrix (``core.stored``) where the target has a
       kernel that reads integers and computes in floats; one that must stay float does.
    2. All others are float, and those that read a weight say why.
    3. A matrix that several nodes read along the same axis has one entry; a node that reads it
       along the other one stays float.
    4. A table whose numbers are another matrix transposed, as the embedding of a tied head is, is
       tied to that one: it takes its parameters, and a runtime can store both once.

    Args:
        graph: the canonical float graph.
        plan: gets the entries, without parameters.
        target: has the rules.
        float_nodes: node name -> why it must stay float.
        bits: of a weight.
        group: elements that share a scale; None for the usual.
        granularity: ``channel`` for one scale a column.
        symmetric: whether zero points are in the middle; None leaves it open.

    Raises:
        QCompileError: BAD_OPTION for groups that the target's kernels do not take.
    """
    size = _checked(group, bits, target, granularity)
    if symmetric is False and target.weights.narrow:
        raise QCompileError(
            Code.BAD_OPTION,
            f"--symmetry asymmetric: the kernels of {target.name} take no zero points",
            hint="leave it out",
        )
    found: dict[str, Stored] = {}
    for node in graph:
        name = node.name or ""
        rule = target.rule(node.op_type)
        stored = _candidate(node, rule, target, float_nodes)
        if isinstance(stored, Stored) and stored.axis != found.get(stored.name, stored).axis:
            stored = f"{stored.name} is read along its other axis as well"
        if isinstance(stored, str):
            chosen = name in float_nodes
            plan.nodes[name] = NodePlan(name, node.op_type, "float", stored, chosen=chosen)
            continue
        plan.nodes[name] = NodePlan(name, node.op_type, "weights")
        if stored.name not in found:
            found[stored.name] = stored
            plan.values[stored.name] = _entry(stored, bits, size, symmetric, target.weights)
    _tie(found, plan)


def _candidate(
    node: ir.Node, rule: OpRule | None, target: Target, float_nodes: Mapping[str, str]
) -> Stored | str:
    if (node.name or "") in float_nodes:
        return float_nodes[node.name or ""]
    if STAYS_FLOAT_KEY in node.metadata_props:
        return node.metadata_props[STAYS_FLOAT_KEY]
    stored = stored_weight(node)
    if rule is None or not rule.weights_only:
        return _no_kernel(node, rule, target)
    if isinstance(stored, str):
        return stored
    size = stored.rows * stored.columns
    if size < FEWEST:
        return f"its weight has {size} numbers: too few for their bytes to matter"
    smallest = min(target.weights.groups, default=1)
    if stored.is_table and stored.rows % smallest:
        return f"its rows of {stored.rows} are no whole blocks of {smallest}"
    if not np.isfinite(stored.matrix()).all():
        return f"its weight {stored.name} holds infinities or NaN"
    return stored


def _no_kernel(node: ir.Node, rule: OpRule | None, target: Target) -> str:
    if rule is not None and rule.weights_unless:
        return rule.weights_unless
    weighty = any(
        v is not None and v.const_value is not None and v.const_value.size >= FEWEST
        for v in node.inputs
    )
    if weighty:
        return f"{target.name} has no kernel for {node.op_type} that reads integers as weights"
    return f"{node.op_type} reads no weight"


def _checked(group: int | None, bits: int, target: Target, granularity: str | None) -> int:
    """Elements that share a scale; 0 for those of a whole column."""
    if granularity == "tensor":
        raise QCompileError(
            Code.BAD_OPTION,
            "--granularity tensor: weights without integer activations have a scale a column at "
            "least",
            hint="--granularity channel, or group:32",
        )
    if granularity == "channel":
        return 0
    if "group" not in target.weights.granularity:
        if group is None:
            return 0
        raise QCompileError(
            Code.BAD_OPTION,
            f"--granularity group:{group}: the kernels of {target.name} have a scale a column",
            hint="--granularity channel",
        )
    size = USUAL_GROUP.get(bits, _USUAL_ELSE) if group is None else group
    known = target.weights.groups
    if known and not any(size % one == 0 for one in known):
        raise QCompileError(
            Code.BAD_OPTION,
            f"--granularity group:{size}: the kernels of {target.name} have a scale for "
            f"{', '.join(map(str, known))} elements of {bits} bits",
            hint="any multiple of one of them will do",
        )
    return size


def _entry(
    stored: Stored, bits: int, size: int, symmetric: bool | None, numbers: Numbers
) -> ValuePlan:
    group = stored.rows if size == 0 else min(size, stored.rows)
    fits = numbers.wide is None or stored.rows % numbers.multiple == 0
    return ValuePlan(
        stored.name,
        "weight",
        f"uint{bits}" if fits else str(numbers.wide),
        "group",
        stored.axis,
        symmetric=bool(symmetric) or numbers.narrow,
        reason="" if fits else f"{stored.rows} inputs are no multiple of {numbers.multiple}",
        group=group,
        narrow=numbers.narrow,
    )


def _tie(found: Mapping[str, Stored], plan: QuantPlan) -> None:
    """Let tables take after the matrices that hold the same numbers."""
    matrices = [stored for stored in found.values() if not stored.is_table]
    for table in found.values():
        if not table.is_table:
            continue
        for matrix in matrices:
            if same_numbers(table.matrix(), matrix.matrix()):
                entry = plan.values[table.name]
                relation = Shared(matrix.name)
                plan.values[table.name] = replace(entry, relation=relation, rule="shared")
                break
