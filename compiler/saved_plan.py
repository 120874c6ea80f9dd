"""A plan that was saved, and perhaps edited by hand, held against the model it is to be used on.

An edit may change a scale, a zero point, the type of a weight to the target's other one, and any
node to ``float``; whatever else a hand could write is refused with the name of the entry.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import onnx_ir as ir

from qcompile.core.errors import Code, QCompileError
from qcompile.core.graph import static_shape
from qcompile.core.notes import Note
from qcompile.core.numerics.affine import limits, zero_offset
from qcompile.core.plan import Fixed, NodePlan, QuantPlan, Shared, ValuePlan, Widened
from qcompile.core.plan_file import load_plan
from qcompile.core.stored import Stored, stored_weights
from qcompile.core.target import Target
from qcompile.core.units import units
from qcompile.passes.plan.caches import is_even
from qcompile.passes.plan.codebooks import code_faults
from qcompile.passes.plan.stored_faults import stored_faults
from qcompile.passes.plan.weights import channel_axis

_MEANS: Final = {
    "fingerprint": "model (its graph differs)",
    "target": "target",
    "scheme": "scheme",
    "ends": "type of the ends (--io)",
    "weights": "form of weights (--weights)",
    "attention": "target (its attention)",
}


@dataclass(frozen=True)
class SavedPlan:
    """A plan as it was read."""

    path: Path
    plan: QuantPlan
    notes: tuple[Note, ...] = ()
    """A warning for everything stored that no longer fits its edited entries."""


def read_plan(path: Path) -> SavedPlan:
    """Read ``NAME.plan.json`` and, where it exists, ``NAME.plan.npz`` beside it.

    Raises:
        QCompileError: BAD_PLAN.
    """
    arrays = path.with_suffix(".npz")
    try:
        text = path.read_bytes()
        stored = arrays.read_bytes() if arrays.is_file() else None
    except OSError as error:
        raise QCompileError(Code.BAD_PLAN, f"{path} cannot be read: {error.strerror}") from error
    plan, dropped = load_plan(text, stored, str(path))
    return SavedPlan(path, plan, tuple(Note("warning", sentence) for sentence in dropped))


def fit_plan(plan: QuantPlan, expected: QuantPlan, graph: ir.Graph, target: Target) -> list[Note]:
    """Check a saved plan against the one that would be made now, and complete its edits in place.

    A node that an integer node absorbed becomes float when that one was made float.

    Args:
        plan: as it was read.
        expected: nodes and values as they are decided now, no parameters measured.
        graph: the canonical float graph.
        target: of both.

    Returns:
        A warning for each edit that has no effect.

    Raises:
        QCompileError: PLAN_MISMATCH when the plan is of another model, target or scheme; BAD_PLAN
            naming the node or value whose entry cannot be.
    """
    for what, meaning in _MEANS.items():
        saved, now = getattr(plan, what), getattr(expected, what)
        if saved != now:
            raise QCompileError(
                Code.PLAN_MISMATCH,
                f"the plan was made for another {meaning}: {saved}, not {now}",
                hint="build once without --plan to make one",
            )
    _same_names("node", plan.nodes, expected.nodes)
    _same_names("value", plan.values, expected.values)
    for name, node in plan.nodes.items():
        _check_node(node, expected.nodes[name], plan)
    _complete_edits(plan, expected)
    weights = _weights(graph, expected, target)
    stored = {one.name: one for one in stored_weights(graph, expected)}
    for name, value in plan.values.items():
        now = expected.values[name]
        if plan.weights != "int" and value.role == "weight":
            faults = code_faults(value, now, static_shape(graph.initializers[name]) or ())
        else:
            faults = _faults(value, now, target, weights.get(name), stored.get(name))
        fault = next(faults, None)
        if fault is not None:
            raise QCompileError(Code.BAD_PLAN, f"the plan's value {name} cannot be: {fault}")
    return [note for value in plan.values.values() for note in _idle_edits(value, plan)]


def _same_names(kind: str, saved: Mapping[str, object], now: Mapping[str, object]) -> None:
    for name in now:
        if name not in saved:
            raise QCompileError(Code.BAD_PLAN, f"the plan has no entry for {kind} {name}")
    for name in saved:
        if name not in now:
            raise QCompileError(Code.BAD_PLAN, f"the plan has {kind} {name}, the model has not")


def _check_node(node: NodePlan, now: NodePlan, plan: QuantPlan) -> None:
    if node.activations != now.activations:
        what = f"it cannot take {node.activations or 'other'} activations"
    elif node.op != now.op or node.into not in {now.into, None}:
        what = f"it is a {now.op}" + (f" absorbed by {now.into}" if now.into else "")
    elif node.mode == now.mode or (node.mode == "float" and now.mode != "absorbed"):
        return
    elif now.mode == "absorbed" and node.mode == "float":
        if plan.mode(now.into) == "float":
            return
        what = f"{now.into} does its work; make that float instead, or as well"
    else:
        what = f"mode {node.mode} cannot be: {now.reason or f'it can be {now.mode} or float'}"
    raise QCompileError(Code.BAD_PLAN, f"the plan's node {node.name}: {what}")


def _complete_edits(plan: QuantPlan, expected: QuantPlan) -> None:
    """Make float what was absorbed by a node that is float now; give float nodes a reason."""
    for name, node in plan.nodes.items():
        if node.mode == "absorbed" and plan.mode(node.into) == "float":
            why = f"{plan.nodes[node.into or ''].op} before it is float"
            plan.nodes[name] = replace(node, mode="float", into=None, reason=why)
        elif node.mode == "float" and expected.mode(name) != "float" and not node.reason:
            plan.nodes[name] = replace(node, into=None, reason="the plan says so")


@dataclass(frozen=True)
class _Weight:
    """What may be said of a weight's scales."""

    shape: tuple[int, ...]
    axis: int | None
    """The axis along which it may have several."""


def _weights(graph: ir.Graph, plan: QuantPlan, target: Target) -> dict[str, _Weight]:
    layers = {
        unit.weight.name or "": _Weight(
            static_shape(unit.weight) or (), channel_axis(unit, unit.weight, target)
        )
        for unit in units(graph, plan)
        if unit.weight is not None
    }
    read = (node.inputs[0] for node in graph if plan.mode(node.name) == "table")
    tables = {t.name or "": _Weight(static_shape(t) or (), 1) for t in read if t is not None}
    return tables | layers


def _faults(
    value: ValuePlan,
    now: ValuePlan,
    target: Target,
    weight: _Weight | None,
    stored: Stored | None,
) -> Iterator[str]:
    """What is wrong with an entry, in the order in which the rest makes sense."""
    if (value.role, value.relation) != (now.role, now.relation):
        yield "its role and its relation to other values follow from the graph"
    if stored is not None:
        yield from stored_faults(value, stored, target)
        return
    types = _types(value, now, target)
    if value.dtype not in types:
        yield f"type {value.dtype!r} is none of {', '.join(types)}"
    if value.role == "bias" or isinstance(now.relation, Widened):
        return  # its parameters are worked out again
    if value.params is None:
        if value.role != "cache" or now.granularity == "channel":
            yield "it has no scale"
        return
    yield from (
        _cache_faults(value, now)
        if value.role == "cache"
        else _parameter_faults(value, now, target, weight)
    )


def _parameter_faults(
    value: ValuePlan, now: ValuePlan, target: Target, weight: _Weight | None
) -> Iterator[str]:
    """What is wrong with the scales and zero points of a weight or activation."""
    assert value.params is not None
    low, high = limits(value.dtype)
    if value.params.zero_point.min() < low or value.params.zero_point.max() > high:
        yield f"a zero point of {value.dtype} lies from {low} to {high}"
    if value.role == "weight":
        yield from _weight_faults(value, target, weight)
    elif value.params.scale.ndim or value.axis is not None:
        yield "an activation has one scale"
    elif value.dtype == "int16" and value.params.zero_point.any():
        yield "the kernels demand 0 as the zero point of int16"
    elif isinstance(now.relation, Fixed) and now.params and not value.params.same_as(now.params):
        yield f"the kernel of {now.relation.op} sets its scale and zero point"


def _cache_faults(value: ValuePlan, now: ValuePlan) -> Iterator[str]:
    assert value.params is not None
    if value.params.zero_point.any():
        yield "the operator that stores it takes no zero point"
    if (value.granularity, value.axis) != (now.granularity, now.axis):
        yield "it takes one scale, or one a channel of each head along axis 1"
    levels = value.params.levels
    if (levels is None) != now.symmetric:
        yield f"{value.dtype} keys have levels, and the operator's caches scales"
    elif levels is not None and not is_even(levels, limits(value.dtype)[1] + 1):
        yield f"its levels must be {limits(value.dtype)[1] + 1}, evenly apart"


def _weight_faults(value: ValuePlan, target: Target, weight: _Weight | None) -> Iterator[str]:
    assert value.params is not None
    if target.weights.symmetric and (value.params.zero_point != zero_offset(value.dtype)).any():
        yield f"the kernels demand {zero_offset(value.dtype)} as the zero point of {value.dtype}"
    if value.params.scale.ndim == 0:
        if value.axis is not None:
            yield "it has one scale but an axis"
        return
    if weight is None or weight.axis is None:
        yield "its kernel takes one scale a weight"
        return
    channels = weight.shape[weight.axis]
    if value.axis != weight.axis or value.params.scale.size != channels:
        yield f"it takes one scale, or {channels} along axis {weight.axis}"


def _types(value: ValuePlan, now: ValuePlan, target: Target) -> list[str]:
    if value.role == "cache":
        return [now.dtype]
    if value.role == "activation" and now.dtype != target.activations.dtype:
        return [now.dtype]  # of a node with int16 activations
    numbers = {"activation": target.activations, "weight": target.weights, "bias": target.bias}
    allowed = numbers[value.role]
    return [t for t in (allowed.dtype, allowed.alternative) if t is not None]


def _idle_edits(value: ValuePlan, plan: QuantPlan) -> Iterator[Note]:
    if not isinstance(value.relation, Shared) or value.params is None:
        return
    leader = plan.values[value.relation.leader]
    if leader.params is not None and not value.params.same_as(leader.params):
        text = f"what the plan says of {value.name} has no effect: it takes after {leader.name}"
        yield Note("warning", text)
