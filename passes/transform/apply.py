"""Factors of a group taken up by the constants around it: what every transform does."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from qcompile.core.errors import Code, QCompileError
from qcompile.passes.prepare.edit import set_constant
from qcompile.passes.prepare.linear import fold_after, fold_before, layer_of
from qcompile.passes.transform.channels import Group, find_groups

_APPLIED = "qcompile.transforms"
"""``graph.meta`` key: what was applied to a graph already, as (transform, value name)."""


def apply_factors(
    model: ir.Model,
    transform: str,
    factors: Mapping[str, np.ndarray],
    stand_ins: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Divide each group by its factors, and multiply what reads it; whether anything changed.

    All in float64, rounded once to the type of the constant: factors that are powers of two keep
    the float function to the bit.

    Args:
        model: the canonical float graph, changed in place.
        transform: who asks; what it applied once to a graph it does not apply again.
        factors: name of the first value of a group -> float32 (channels,), positive.
        stand_ins: name of a group -> name of the group that is scaled in its place.

    Raises:
        QCompileError: BAD_PLAN when the graph has no such group, or one of another size.
    """
    done: frozenset[tuple[str, str]] = model.graph.meta.get(_APPLIED, frozenset())
    todo = {name: f for name, f in factors.items() if (transform, name) not in done}
    if not todo:
        return False
    groups = {group.key: group for group in find_groups(model.graph) if not group.faults}
    for name, array in todo.items():
        group = groups.get(stand_ins.get(name, name))
        if group is None or group.channels != array.size:
            what = "no channels that can be scaled" if group is None else f"{group.channels}"
            raise QCompileError(
                Code.BAD_PLAN,
                f"the plan scales {array.size} channels of {name} ({transform}); it has {what}",
            )
        _apply(group, array.astype(np.float64))
    model.graph.meta[_APPLIED] = done | {(transform, name) for name in todo}
    return any(np.any(array != 1) for array in todo.values())


def changed_values(model: ir.Model, factors: Iterable[str]) -> set[str]:
    """Names of the values that differ after the groups of these names were scaled."""
    wanted = set(factors)
    groups = (group for group in find_groups(model.graph) if group.key in wanted)
    return {value.name or "" for group in groups for value, _ in group.values}


def _apply(group: Group, factors: np.ndarray) -> None:
    for writer in group.writers:
        layer = layer_of(writer.node)
        assert layer is not None
        fold_after(layer, 1.0 / factors, None, "transform")
    for vector in group.vectors:
        array = vector.array
        set_constant(vector.node, vector.slot, (array / vector.over(factors)).astype(array.dtype))
    for reader in group.readers:
        layer = layer_of(reader.layer.node)
        assert layer is not None
        fold_before(layer, factors[reader.index], None, "transform")
