"""A plan on disk: ``OUT.plan.json``, to read, edit and compare, and ``OUT.plan.npz``, its arrays.

The JSON holds every entry of the plan: types, scales, zero points, rules, reasons. The arrays are
what a pass computed from them: bias corrections and chosen integers. Each entry's digest is kept
with the arrays, so that an edited entry is noticed and what was computed from it is dropped.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.core.numerics.affine import SMALLEST_SCALE
from qcompile.core.plan import (
    Derived,
    Fixed,
    NodePlan,
    QuantParams,
    QuantPlan,
    Relation,
    Shared,
    ValuePlan,
)

SCHEMA_VERSION: Final = 1
Entry = TypeVar("Entry", NodePlan, ValuePlan)
_CORRECTION: Final = "correction/"
_ROUNDED: Final = "rounded/"
_DIGESTS: Final = "digests"


def to_json(plan: QuantPlan) -> bytes:
    """The readable part of a plan; equal plans give equal bytes."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": plan.fingerprint,
        "target": plan.target,
        "scheme": plan.scheme,
        "ends": plan.ends,
        **({"from_noise": True} if plan.from_noise else {}),
        "nodes": {name: _node_record(node) for name, node in plan.nodes.items()},
        "values": {name: _value_record(value) for name, value in plan.values.items()},
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def to_arrays(plan: QuantPlan) -> bytes:
    """The arrays of a plan as an .npz file; equal plans give equal bytes."""
    arrays: dict[str, np.ndarray] = {
        **{_CORRECTION + name: array for name, array in sorted(plan.corrections.items())},
        **{_ROUNDED + name: array for name, array in sorted(plan.rounded.items())},
    }
    digests = json.dumps(_digests(plan), sort_keys=True).encode()
    arrays[_DIGESTS] = np.frombuffer(digests, np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its entries carry no time of day
    return buffer.getvalue()


def load_plan(text: bytes, arrays: bytes | None, where: str) -> tuple[QuantPlan, list[str]]:
    """Read a plan back.

    Args:
        text: the JSON.
        arrays: the .npz, or None when it is missing: then nothing stored is replayed.
        where: file name for messages.

    Returns:
        The plan, and one sentence for everything stored that was dropped because the entry it was
        computed from was edited.

    Raises:
        QCompileError: BAD_PLAN naming the file, the entry and the key.
    """
    plan = _read_json(text, where)
    dropped: list[str] = []
    if arrays is not None:
        dropped = _read_arrays(plan, arrays, where)
    return plan, dropped


# --- writing ---------------------------------------------------------------------------------


def _node_record(node: NodePlan) -> dict[str, Any]:
    record: dict[str, Any] = {"op": node.op, "mode": node.mode}
    if node.into is not None:
        record["into"] = node.into
    if node.reason:
        record["reason"] = node.reason
    return record


def _value_record(value: ValuePlan) -> dict[str, Any]:
    record: dict[str, Any] = {"role": value.role, "dtype": value.dtype}
    if value.granularity != "tensor":
        record |= {"granularity": value.granularity, "axis": value.axis}
    if value.symmetric:
        record["symmetric"] = True
    if value.relation is not None:
        record["relation"] = _relation_record(value.relation)
    if value.params is not None:
        record["scale"] = _numbers(value.params.scale)
        zero = value.params.zero_point
        record["zero_point"] = int(zero.flat[0]) if _is_uniform(zero) else zero.tolist()
    return record | {k: v for k, v in (("rule", value.rule), ("reason", value.reason)) if v}


def _relation_record(relation: Relation) -> dict[str, str]:
    match relation:
        case Shared(leader):
            return {"shared": leader}
        case Derived(activation, weight):
            return {"activation": activation, "weight": weight}
        case Fixed(op):
            return {"fixed": op}


def _numbers(scale: np.ndarray) -> float | list[float]:
    """Float32 numbers in the fewest digits that give them back."""
    shortest = [float(str(x)) for x in scale.astype(np.float32).reshape(-1)]
    return shortest if scale.ndim else shortest[0]


def _is_uniform(zero: np.ndarray) -> bool:
    return bool(zero.size and (zero == zero.flat[0]).all())


def _digests(plan: QuantPlan) -> dict[str, str]:
    """A digest of each entry, without its free text: what was computed hangs on the rest."""
    records = {f"value/{n}": _value_record(v) for n, v in plan.values.items()}
    records |= {f"node/{n}": _node_record(v) for n, v in plan.nodes.items()}
    found = {}
    for key, record in records.items():
        bare = {k: v for k, v in record.items() if k not in {"reason", "rule"}}
        digest = hashlib.sha256(json.dumps(bare, sort_keys=True).encode())
        found[key] = digest.hexdigest()[:12]
    return found


# --- reading ---------------------------------------------------------------------------------


def _read_json(text: bytes, where: str) -> QuantPlan:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(where, f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        raise _bad(where, f"schema_version must be {SCHEMA_VERSION}")
    try:
        return QuantPlan(
            fingerprint=document["fingerprint"],
            target=document["target"],
            scheme=document["scheme"],
            ends=document["ends"],
            from_noise=bool(document.get("from_noise", False)),
            nodes={n: _named(_read_node, n, r, where) for n, r in document["nodes"].items()},
            values={n: _named(_read_value, n, r, where) for n, r in document["values"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _bad(where, f"a key is missing or of a wrong type: {error}") from error


def _named(
    read: Callable[[str, Mapping[str, Any], str], Entry], name: str, record: Any, where: str
) -> Entry:
    """Read one entry; what goes wrong is said of its name."""
    try:
        return read(name, record, where)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        what = f"{name}: a key is missing, unknown or of a wrong type: {error}"
        raise _bad(where, what) from error


def _read_node(name: str, record: Mapping[str, Any], where: str) -> NodePlan:
    mode = record["mode"]
    if mode not in {"integer", "dynamic", "float", "absorbed"}:
        raise _bad(
            where, f"node {name}: mode {mode!r} is none of integer, dynamic, float, absorbed"
        )
    return NodePlan(name, record["op"], mode, record.get("reason", ""), record.get("into"))


def _read_value(name: str, record: Mapping[str, Any], where: str) -> ValuePlan:
    entry = ValuePlan(
        name,
        record["role"],
        record["dtype"],
        record.get("granularity", "tensor"),
        record.get("axis"),
        record.get("symmetric", False),
        _read_relation(record.get("relation")),
        None,
        record.get("rule", ""),
        record.get("reason", ""),
    )
    if "scale" not in record:
        return entry
    scale = np.asarray(record["scale"], np.float64)
    zero = np.asarray(record["zero_point"])
    # A bias has the product of two scales, which is worked out again anyway.
    smallest = SMALLEST_SCALE if entry.role != "bias" else np.finfo(np.float64).tiny
    usable = (scale >= smallest) & (scale <= np.finfo(np.float32).max)
    if scale.ndim > 1 or not scale.size or not usable.all():
        raise _bad(where, f"value {name}: a scale must be a positive number, or a list of them")
    if zero.dtype.kind != "i":
        raise _bad(where, f"value {name}: a zero point must be a whole number, or a list of them")
    scale, zero = scale.astype(np.float32), zero.astype(np.int64)
    return entry.with_params(QuantParams(scale, np.broadcast_to(zero, scale.shape).copy()))


def _read_relation(record: Mapping[str, str] | None) -> Relation | None:
    if record is None:
        return None
    if "shared" in record:
        return Shared(record["shared"])
    if "fixed" in record:
        return Fixed(record["fixed"])
    return Derived(record["activation"], record["weight"])


def _read_arrays(plan: QuantPlan, arrays: bytes, where: str) -> list[str]:
    try:
        with np.load(io.BytesIO(arrays), allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
        old = json.loads(stored.pop(_DIGESTS).tobytes())
    except (ValueError, KeyError, OSError) as error:
        raise _bad(where, f"its arrays cannot be read: {error}") from error
    now = _digests(plan)
    edited = {key for key in now.keys() | old.keys() if now.get(key) != old.get(key)}
    plan.rounded = _pick(stored, _ROUNDED)
    plan.corrections = _pick(stored, _CORRECTION)
    return _drop_stale(plan, edited)


def _pick(stored: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): a for n, a in stored.items() if n.startswith(prefix)}


def _drop_stale(plan: QuantPlan, edited: set[str]) -> list[str]:
    """Drop what hangs on an edited entry.

    The integers of a weight hang on its own entry, a correction on every entry up to its layer,
    since it was found on the quantized prefix.
    """
    if not edited:
        return []
    dropped = []
    for name in [n for n in plan.rounded if f"value/{n}" in edited]:
        del plan.rounded[name]
        dropped.append(f"the chosen integers of {name} were dropped: its entry was edited")
    order = list(plan.values)
    places = [order.index(key.removeprefix("value/")) for key in edited if key[6:] in plan.values]
    first = 0 if any(key.startswith("node/") for key in edited) else min(places, default=0)
    stale = [n for n in plan.corrections if n not in plan.values or order.index(n) >= first]
    for name in stale:
        del plan.corrections[name]
    if stale:
        names = ", ".join(sorted(key.split("/", 1)[1] for key in edited)[:3])
        why = f"entries before them were edited ({names})"
        dropped.append(f"{len(stale)} bias correction(s) were dropped: {why}")
    return dropped


def _bad(where: str, what: str) -> QCompileError:
    return QCompileError(Code.BAD_PLAN, f"{where}: {what}")
