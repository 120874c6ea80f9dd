"""A plan on disk: ``OUT.plan.json``, to read, edit and compare, and ``OUT.plan.npz``, its arrays.

The JSON holds every entry of the plan: types, scales, zero points, rules, reasons. The arrays are
what a pass computed: bias corrections, chosen integers, and the factors of transforms. Each entry's
digest is kept with the arrays, so that an edited entry is noticed and what was computed from it is
dropped.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.core.numerics.affine import LIMITS
from qcompile.core.plan import Derived, NodePlan, QuantPlan, Shared, ValuePlan, Widened
from qcompile.core.plan_groups import group_arrays, read_groups, stated_digests
from qcompile.core.plan_records import (
    FAULTS,
    node_record,
    read_node,
    read_value,
    typed,
    value_record,
)
from qcompile.core.schemes import WEIGHT_FORMS

SCHEMA_VERSION: Final = 1
Entry = TypeVar("Entry", NodePlan, ValuePlan)
_CORRECTION: Final = "correction/"
_ROUNDED: Final = "rounded/"
_TRANSFORM: Final = "transform/"
_DIGESTS: Final = "digests"
_ENDS: Final = ("float", "uint8", "int8", "int16")
_UNREADABLE: Final = (
    *(ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, RecursionError),
)
"""What numpy and zipfile raise at a file that is not, or no longer, what it was."""


def to_json(plan: QuantPlan) -> bytes:
    """The readable part of a plan; equal plans give equal bytes."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": plan.fingerprint,
        "target": plan.target,
        "scheme": plan.scheme,
        "ends": plan.ends,
        **({"weights": plan.weights} if plan.weights != "int" else {}),
        **({"attention": plan.attention} if plan.attention else {}),
        **({"from_noise": True} if plan.from_noise else {}),
        **({"transforms": _transform_digests(plan)} if plan.transforms else {}),
        "nodes": {name: node_record(node) for name, node in plan.nodes.items()},
        "values": {name: value_record(value) for name, value in plan.values.items()},
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def to_arrays(plan: QuantPlan) -> bytes:
    """The arrays of a plan as an .npz file; equal plans give equal bytes."""
    arrays: dict[str, np.ndarray] = {
        **{_CORRECTION + name: array for name, array in sorted(plan.corrections.items())},
        **{_ROUNDED + name: array for name, array in sorted(plan.rounded.items())},
        **group_arrays(plan),
        **{
            f"{_TRANSFORM}{name}/{key}": array
            for name, factors in plan.transforms.items()
            for key, array in sorted(factors.items())
        },
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
        arrays: the .npz, or None when it is missing: then nothing stored is replayed, and a plan
            that was made after a transform is refused.
        where: file name for messages.

    Returns:
        The plan, and one sentence for everything stored that was dropped because the entry it was
        computed from was edited.

    Raises:
        QCompileError: BAD_PLAN naming the file, the entry and the key.
    """
    plan, transforms, grouped = _read_json(text, where)
    dropped: list[str] = []
    if arrays is not None:
        dropped = _read_arrays(plan, arrays, where, transforms, grouped)
    elif grouped:
        raise _bad(where, "the scales of its groups are in an .npz that must stand beside it")
    if list(_transform_digests(plan).items()) != list(transforms.items()):
        names = ", ".join(transforms) or "no transform"
        raise _bad(where, f"it was made after {names}, whose factors are not in the .npz beside it")
    return plan, dropped


# --- writing ---------------------------------------------------------------------------------


def _digests(plan: QuantPlan) -> dict[str, str]:
    """A digest of each entry, without text and costs: what was computed hangs on the rest."""
    records = {f"value/{n}": value_record(v) for n, v in plan.values.items()}
    records |= {f"node/{n}": node_record(v) for n, v in plan.nodes.items()}
    found = {}
    for key, record in records.items():
        bare = {k: v for k, v in record.items() if k not in {"reason", "rule", "cost"}}
        digest = hashlib.sha256(json.dumps(bare, sort_keys=True).encode())
        found[key] = digest.hexdigest()[:12]
    return found


def _transform_digests(plan: QuantPlan) -> dict[str, str]:
    """A digest of the factors of each transform, in order: scales mean nothing without them."""
    found = {}
    for name, factors in plan.transforms.items():
        digest = hashlib.sha256()
        for key, array in sorted(factors.items()):
            digest.update(f"{key}\x1f{array.size}\x1f".encode())
            digest.update(array.astype("<f4").tobytes())
        found[name] = digest.hexdigest()[:12]
    return found


# --- reading ---------------------------------------------------------------------------------


def _read_json(text: bytes, where: str) -> tuple[QuantPlan, dict[str, str], dict[str, str]]:
    """The plan without its arrays; digests of the transforms it was made after, and of scales."""
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _bad(where, f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        raise _bad(where, f"schema_version must be {SCHEMA_VERSION}")
    for key in ("fingerprint", "target", "scheme", "ends"):
        if not isinstance(document.get(key), str):
            raise _bad(where, f"{key} must be given, as text")
    if document["ends"] not in _ENDS:
        raise _bad(where, f"ends must be one of {', '.join(_ENDS)}, not {document['ends']}")
    try:
        from_noise = typed(document, "from_noise", bool, False)
        weights = typed(document, "weights", str, "int")
        attention = typed(document, "attention", str, "")
        transforms = typed(document, "transforms", dict, {})
    except TypeError as error:
        raise _bad(where, str(error)) from error
    if weights not in WEIGHT_FORMS:
        raise _bad(where, f"weights must be one of {', '.join(WEIGHT_FORMS)}, not {weights}")
    plan = QuantPlan(
        fingerprint=document["fingerprint"],
        target=document["target"],
        scheme=document["scheme"],
        ends=document["ends"],
        weights=weights,
        attention=attention,
        from_noise=from_noise,
        nodes=_read_table(document, "node", read_node, where),
        values=_read_table(document, "value", read_value, where),
    )
    _check_references(plan, where)
    return plan, transforms, stated_digests(document)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(k for k, _ in pairs).items() if count > 1)
        raise ValueError(f"key {twice!r} is given twice")
    return found


def _read_table(
    document: Mapping[str, Any], kind: str, read: Callable[[str, Any], Entry], where: str
) -> dict[str, Entry]:
    table = document.get(f"{kind}s")
    if not isinstance(table, dict):
        raise _bad(where, f"{kind}s must be given, as a table")
    found = {}
    for name, record in table.items():
        try:
            found[name] = read(name, record)
        except FAULTS as error:
            what = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
            raise _bad(where, f"{kind} {name}: {what}") from error
    return found


def _check_references(plan: QuantPlan, where: str) -> None:
    """Hold every entry to naming only entries that are there, and leaders that follow nobody."""
    for node in plan.nodes.values():
        if node.into is not None and node.into not in plan.nodes:
            raise _bad(where, f"node {node.name}: there is no node {node.into} to be absorbed into")
    for value in plan.values.values():
        match value.relation:
            case Shared(leader) | Widened(leader):
                names = [leader]
            case Derived(activation, weight):
                names = [activation, weight]
            case _:
                names = []
        for name in names:
            if name not in plan.values:
                raise _bad(where, f"value {value.name}: there is no value {name} to take after")
            if isinstance(value.relation, Shared) and isinstance(
                plan.values[name].relation, Shared
            ):
                raise _bad(where, f"value {value.name}: {name} takes after another value itself")


def _read_arrays(
    plan: QuantPlan,
    arrays: bytes,
    where: str,
    transforms: Iterable[str],
    grouped: Mapping[str, str],
) -> list[str]:
    try:
        with np.load(io.BytesIO(arrays), allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
        old = dict(json.loads(stored.pop(_DIGESTS).tobytes()))
    except _UNREADABLE as error:
        raise _bad(where, f"its arrays cannot be read: {error}") from error
    wrong = read_groups(plan, stored, grouped)
    if wrong is not None:
        raise _bad(where, wrong)
    now = _digests(plan)
    edited = {key for key in now.keys() | old.keys() if now.get(key) != old.get(key)}
    plan.rounded = _pick(stored, _ROUNDED)
    plan.corrections = _pick(stored, _CORRECTION)
    plan.transforms = {name: _pick(stored, f"{_TRANSFORM}{name}/") for name in transforms}
    dropped = _drop_stale(plan, edited)
    for kind, table, fault in (
        ("chosen integers", plan.rounded, _rounded_fault),
        ("a correction", plan.corrections, _correction_fault),
    ):
        for name, array in table.items():
            what = fault(plan.values.get(name), array)
            if what:
                raise _bad(where, f"the arrays hold {kind} of {name}, {what}")
    for transform, factors in plan.transforms.items():
        for name, array in factors.items():
            if array.dtype != np.float32 or array.ndim != 1 or not _all_positive(array):
                what = "which are not one positive float32 a channel"
                raise _bad(where, f"the arrays hold factors of {name} for {transform}, {what}")
    return dropped


def _rounded_fault(entry: ValuePlan | None, array: np.ndarray) -> str | None:
    if entry is None or entry.role != "weight":
        return "which is no weight of the plan"
    low, high = LIMITS[entry.dtype]
    is_fit = array.dtype.kind in "iu" and array.min(initial=0) >= low
    return None if is_fit and array.max(initial=0) <= high else f"which are not of {entry.dtype}"


def _correction_fault(entry: ValuePlan | None, array: np.ndarray) -> str | None:
    if entry is None or entry.role != "bias":
        return "which is no bias of the plan"
    if array.dtype != np.float32 or array.ndim != 1 or not np.all(np.isfinite(array)):
        return "which is not one finite float32 a channel"
    if entry.params is not None and entry.params.scale.size not in {1, array.size}:
        return f"which has {entry.params.scale.size} channels, not {array.size}"
    return None


def _all_positive(array: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(array) & (array > 0)))


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
    place = {name: index for index, name in enumerate(plan.values)}
    first = min(_places(plan, edited, place))
    stale = [n for n in plan.corrections if place.get(n, first) >= first]
    for name in stale:
        del plan.corrections[name]
    if stale:
        names = ", ".join(sorted(key.split("/", 1)[1] for key in edited)[:3])
        why = f"entries before them were edited ({names})"
        dropped.append(f"{len(stale)} bias correction(s) were dropped: {why}")
    return dropped


def _places(plan: QuantPlan, edited: set[str], place: Mapping[str, int]) -> Iterator[int]:
    """Where in the plan's order the edits begin to matter.

    A node, and a value that came or went, may matter anywhere; a value that leads others matters
    where the first of them stands.
    """
    yield from (place.get(key.removeprefix("value/"), 0) for key in edited if key[:6] == "value/")
    if any(key.startswith("node/") for key in edited):
        yield 0
    for name, value in plan.values.items():
        if isinstance(value.relation, Shared) and f"value/{value.relation.leader}" in edited:
            yield place[name]


def _bad(where: str, what: str) -> QCompileError:
    return QCompileError(Code.BAD_PLAN, f"{where}: {what}")
