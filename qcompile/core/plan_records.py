"""Entries of a plan as the records of its JSON, and back; a record that cannot be is refused.

What ``read_node`` and ``read_value`` raise (KeyError, TypeError, ValueError and their like) says
what is wrong with the record; whoever reads the file adds which one it is.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, get_args

import numpy as np

from qcompile.core.numerics.affine import LIMITS, SMALLEST_SCALE
from qcompile.core.plan import (
    TOKEN,
    WIDE,
    CostUnit,
    Derived,
    Fixed,
    Granularity,
    Mode,
    NodeCost,
    NodePlan,
    QuantParams,
    Relation,
    Role,
    Shared,
    ValuePlan,
    Widened,
)
from qcompile.core.plan_levels import levels_record, read_levels, short_numbers

T = TypeVar("T")

_ACTIVATIONS: Final = (WIDE, *(f"{dtype}{TOKEN}" for dtype in ("uint8", "int8", "int4")))

_COST_NUMBERS: Final = ("float", "integer", "error")
"""Each with its unit behind it: ``float_ms``, ``float_instructions``."""

FAULTS: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a record raises."""


def node_record(node: NodePlan) -> dict[str, Any]:
    """The record of a node."""
    record: dict[str, Any] = {"op": node.op, "mode": node.mode}
    if node.into is not None:
        record["into"] = node.into
    if node.activations:
        record["activations"] = node.activations
    if node.chosen:
        record["chosen"] = True
    if node.reason:
        record["reason"] = node.reason
    if node.cost is not None:
        record["cost"] = _cost_record(node.cost)
    return record


def _cost_record(cost: NodeCost) -> dict[str, Any]:
    numbers = zip(_COST_NUMBERS, (cost.floats, cost.integers, cost.error), strict=True)
    record: dict[str, Any] = {f"{name}_{cost.unit}": float(f"{n:.4g}") for name, n in numbers}
    record["measured"] = cost.measured
    return record | ({"like": cost.like} if cost.like else {})


def value_record(value: ValuePlan) -> dict[str, Any]:
    """The record of a value; what is usual is left out."""
    record: dict[str, Any] = {"role": value.role, "dtype": value.dtype}
    if value.granularity != "tensor":
        record |= {"granularity": value.granularity, "axis": value.axis}
    if value.granularity == "group":
        record["group"] = value.group
        record |= {"narrow": True} if value.narrow else {}
    if value.symmetric:
        record["symmetric"] = True
    if value.relation is not None:
        record["relation"] = _relation_record(value.relation)
    if value.params is not None and value.granularity == "group":
        record["scales"] = params_digest(value.params)
    elif value.params is not None and value.params.levels is not None:
        record |= levels_record(value.params)
    elif value.params is not None:
        record["scale"] = short_numbers(value.params.scale)
        zero = value.params.zero_point
        record["zero_point"] = int(zero.flat[0]) if _is_uniform(zero) else zero.tolist()
    return record | {k: v for k, v in (("rule", value.rule), ("reason", value.reason)) if v}


def params_digest(params: QuantParams) -> str:
    """What stands in the record of a grouped weight for its scales, which are with the arrays."""
    digest = hashlib.sha256(repr(params.scale.shape).encode())
    digest.update(params.scale.astype("<f4").tobytes())
    digest.update(params.zero_point.astype("<i2").tobytes())
    return digest.hexdigest()[:12]


def _relation_record(relation: Relation) -> dict[str, str]:
    match relation:
        case Shared(leader):
            return {"shared": leader}
        case Derived(activation, weight):
            return {"activation": activation, "weight": weight}
        case Fixed(op):
            return {"fixed": op}
        case Widened(source):
            return {"widened": source}


def _is_uniform(zero: np.ndarray) -> bool:
    return bool(zero.size and (zero == zero.flat[0]).all())


def _one_of(record: Mapping[str, Any], key: str, known: Sequence[str]) -> Any:
    found = record[key]
    if not isinstance(found, str) or found not in known:
        raise ValueError(f"{key} must be one of {', '.join(known)}, not {found!r}")
    return found


def typed(record: Mapping[str, Any], key: str, kind: type[T], default: T) -> T:
    """An optional key, which must be of exactly that type."""
    found = record.get(key, default)
    if type(found) is not kind:  # a bool is no int here
        raise TypeError(f"{key} must be of type {kind.__name__}, not {found!r}")
    return found


def read_node(name: str, record: Mapping[str, Any]) -> NodePlan:
    """Read what ``node_record`` wrote."""
    mode = _one_of(record, "mode", get_args(Mode))
    into = typed(record, "into", str, "") or None
    if mode == "absorbed" and into is None:
        raise KeyError("into")
    if "op" not in record:
        raise KeyError("op")
    op, reason = typed(record, "op", str, ""), typed(record, "reason", str, "")
    wide = _one_of(record, "activations", _ACTIVATIONS) if "activations" in record else ""
    chosen = typed(record, "chosen", bool, False)
    cost = _read_cost(record["cost"]) if "cost" in record else None
    into = into if mode == "absorbed" else None
    return NodePlan(name, op, mode, reason, into, wide, chosen, cost)


def _read_cost(record: Mapping[str, Any]) -> NodeCost:
    units: tuple[CostUnit, ...] = get_args(CostUnit)
    unit = next((unit for unit in units if f"{_COST_NUMBERS[0]}_{unit}" in record), units[0])
    keys = [f"{name}_{unit}" for name in _COST_NUMBERS]
    floats, integers, error = (float(record[key]) for key in keys)
    if not np.all(np.isfinite((floats, integers, error))):
        raise ValueError(f"{', '.join(keys)} of a cost must be finite")
    measured, like = typed(record, "measured", bool, False), typed(record, "like", str, "")
    return NodeCost(floats, integers, error, measured, like, unit)


def read_value(name: str, record: Mapping[str, Any]) -> ValuePlan:
    """Read what ``value_record`` wrote."""
    granularity: Granularity = "tensor"
    axis = None
    if "granularity" in record:
        granularity = _one_of(record, "granularity", get_args(Granularity))
    if granularity != "tensor":
        axis = typed(record, "axis", int, -1)
        if axis < 0:
            raise ValueError(f"a granularity of {granularity} needs an axis, counted from 0")
    elif record.get("axis") is not None:
        raise ValueError("an axis needs a granularity of channel or group")
    group = _read_group(record, granularity)
    entry = ValuePlan(
        name,
        _one_of(record, "role", get_args(Role)),
        _one_of(record, "dtype", tuple(LIMITS)),
        granularity,
        axis,
        typed(record, "symmetric", bool, False),
        _read_relation(record.get("relation")),
        None,
        typed(record, "rule", str, ""),
        typed(record, "reason", str, ""),
        group,
        typed(record, "narrow", bool, False),
    )
    if granularity == "group":
        typed(record, "scales", str, "")
        return entry
    if "levels" in record:
        return entry.with_params(read_levels(entry, record))
    if "scale" not in record:
        return entry
    return entry.with_params(_read_params(entry, record["scale"], record["zero_point"]))


def _read_group(record: Mapping[str, Any], granularity: Granularity) -> int:
    group = typed(record, "group", int, 0)
    if granularity != "group" and group:
        raise ValueError("a group needs a granularity of group")
    if granularity == "group" and group < 1:
        raise ValueError("a granularity of group says how many elements share a scale")
    return group


def _read_params(entry: ValuePlan, scales: Any, zeros: Any) -> QuantParams:
    with np.errstate(over="ignore"):
        scale = np.asarray(scales, np.float64).astype(np.float32)
    if isinstance(scales, str | bool) or scale.ndim != (entry.granularity == "channel"):
        wanted = "a list of numbers" if entry.granularity == "channel" else "a number"
        raise ValueError(f"with a granularity of {entry.granularity} its scale is {wanted}")
    # A bias has the product of two scales, which is worked out again anyway.
    least = SMALLEST_SCALE if entry.role != "bias" else np.finfo(np.float32).smallest_normal
    if not np.all(np.isfinite(scale) & (scale >= least)):
        raise ValueError(f"a scale must be finite and at least {least:.1e}")
    zero = np.asarray(zeros)
    low, high = LIMITS[entry.dtype]
    if zero.size and (zero.dtype.kind not in "iu" or zero.min() < low or zero.max() > high):
        raise ValueError(f"a zero point of {entry.dtype} is a whole number from {low} to {high}")
    if zero.ndim and zero.shape != scale.shape:
        raise ValueError(f"{zero.size} zero points for {scale.size} scales")
    return QuantParams(scale, np.broadcast_to(zero, scale.shape).astype(np.int64))


def _read_relation(record: Mapping[str, Any] | None) -> Relation | None:
    if record is None:
        return None
    match record:
        case {"shared": str(leader)}:
            return Shared(leader)
        case {"fixed": str(op)}:
            return Fixed(op)
        case {"widened": str(source)}:
            return Widened(source)
        case {"activation": str(activation), "weight": str(weight)}:
            return Derived(activation, weight)
        case _:
            raise ValueError("a relation names shared, fixed, widened, or activation and weight")
