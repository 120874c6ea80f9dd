"""Scales, zero points and codes of every stored weight, by a chooser for one weight at a time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.numerics.affine import bit_width
from qcompile.core.numerics.grouped import fitted_params, from_codes, to_codes
from qcompile.core.numerics.ternary import binary_codes, binary_params, ternary_params
from qcompile.core.plan import QuantParams, QuantPlan, Shared, ValuePlan
from qcompile.core.stored import Stored, as_columns, stored_weights

TERNARY_BITS: Final = 2

WORTH_ZERO_POINTS: Final = 0.97
"""Free zero points are taken where they leave at most this part of the squared error: they cost a
code a group."""


@dataclass(frozen=True, eq=False)
class StoredChoice:
    """What a chooser says of one weight."""

    entry: ValuePlan
    """As it was planned, with parameters of (groups, N); type, group and symmetry may be others."""
    codes: np.ndarray | None = None
    """uint8 (K, N); None for the nearest."""


Chooser = Callable[[Stored, ValuePlan], StoredChoice]
"""Gets a weight and its entry without parameters."""


def choose_stored(
    graph: ir.Graph, plan: QuantPlan, choosers: Mapping[str, Chooser], usual: Chooser
) -> None:
    """Set the parameters of every stored weight of a plan, and its codes where they are chosen.

    What is tied to another matrix takes its parameters and codes.

    Args:
        graph: the canonical float graph.
        plan: has the entries; completed in place.
        choosers: name of a weight -> what chooses for it.
        usual: chooses for all others.
    """
    done = set()
    for stored in stored_weights(graph, plan):
        entry = plan.values[stored.name]
        if stored.name in done or entry.params is not None or isinstance(entry.relation, Shared):
            continue
        done.add(stored.name)
        choice = choosers.get(stored.name, usual)(stored, entry)
        plan.values[stored.name] = choice.entry
        if choice.codes is not None:
            plan.rounded[stored.name] = as_columns(choice.codes, stored.axis)
    resolve_tied(plan)


def resolve_tied(plan: QuantPlan) -> None:
    """Give what is tied to another matrix the type, group, parameters and codes of that one."""
    for name, entry in list(plan.values.items()):
        if entry.granularity != "group" or not isinstance(entry.relation, Shared):
            continue
        leader = plan.values[entry.relation.leader]
        plan.values[name] = replace(
            entry,
            dtype=leader.dtype,
            narrow=leader.narrow,
            group=leader.group,
            symmetric=leader.symmetric,
            params=leader.params,
        )
        codes = plan.rounded.get(leader.name)
        if codes is not None:
            plan.rounded[name] = codes if leader.axis == entry.axis else codes.T


def nearest(symmetric: bool | None) -> Chooser:
    """Round to nearest, with the scales that leave the least squared error of the weight itself.

    Args:
        symmetric: whether zero points are in the middle; None takes them there unless free ones
            leave clearly less (``WORTH_ZERO_POINTS``).
    """

    def choose(stored: Stored, entry: ValuePlan) -> StoredChoice:
        weight, bits = stored.matrix(), bit_width(entry.dtype)
        if entry.narrow:
            return StoredChoice(
                replace(entry, symmetric=True, params=_narrow(weight, entry), rule="nearest")
            )
        tried = (True, False) if symmetric is None else (symmetric,)
        made = {one: fitted_params(weight, bits, entry.group, one) for one in tried}
        kept = tried[0]
        if symmetric is None:
            errors = [_error(weight, made[one], bits, entry.group) for one in tried]
            kept = errors[1] > WORTH_ZERO_POINTS * errors[0]
        return StoredChoice(
            replace(entry, symmetric=kept, params=made[kept], rule="nearest", reason="")
        )

    return choose


def signs(stored: Stored, entry: ValuePlan) -> StoredChoice:
    """Two values a group, the mean magnitude with the sign of the weight: codes 1 and 3."""
    weight = stored.matrix()
    params = binary_params(weight, entry.group)
    made = replace(entry, symmetric=True, params=params, rule="sign")
    return StoredChoice(made, binary_codes(weight))


def stored_codes(array: np.ndarray, entry: ValuePlan, rounded: np.ndarray | None) -> np.ndarray:
    """The codes of a stored weight, uint8 (K, N): the chosen ones, else the nearest.

    Args:
        array: the weight, of its own shape.
        entry: with parameters.
        rounded: chosen codes, of the weight's own shape.
    """
    assert entry.params is not None and entry.axis is not None
    if rounded is not None:
        return as_columns(rounded, entry.axis)
    weight, bits = as_columns(array, entry.axis), bit_width(entry.dtype)
    return to_codes(weight, entry.params, bits, entry.group, narrow=entry.narrow)


def _narrow(weight: np.ndarray, entry: ValuePlan) -> QuantParams:
    """Scales of codes from 1 on; of three values the best of all (``core.numerics.ternary``)."""
    bits = bit_width(entry.dtype)
    if bits == TERNARY_BITS:
        return ternary_params(weight, entry.group)
    return fitted_params(weight, bits, entry.group, symmetric=True, narrow=True)


def _error(weight: np.ndarray, params: QuantParams, bits: int, group: int) -> float:
    """Sum of squared errors of the nearest codes."""
    wrong = from_codes(to_codes(weight, params, bits, group), params, group)
    wrong -= weight
    return float(np.einsum("kn,kn->", wrong, wrong, dtype=np.float64))
