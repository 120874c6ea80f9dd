"""The tables of a target's TOML file become a ``Target``; what may not stand in it is refused."""

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from qcompile.core.accelerator import Accelerator
from qcompile.core.errors import Code, QCompileError
from qcompile.core.schemes import SchemeName
from qcompile.core.target import FixedOutput, Numbers, OpRule, Saturation, ScaleRatio, Target

T = TypeVar("T")


def parse_target(data: Mapping[str, Any], where: str) -> Target:
    """Make a Target of a parsed TOML file.

    A table ``[scheme.NAME]`` holds what differs under that scheme and is laid on the rest of the
    description as that is laid on its base (``merge``).

    Args:
        data: the tables of the file, bases already merged in.
        where: file name for error messages.

    Raises:
        QCompileError: BAD_TARGET_FILE naming the key that is missing, unknown or of a wrong type.

    """
    tables = dict(data)
    if tables.pop("schema", None) != 1:
        raise _bad(where, "schema must be 1")
    differing = _table({"scheme": {}, **tables}, "scheme", where)
    tables.pop("scheme", None)
    rules: _Rules = {}
    whole = _parse(tables, where, rules)
    variants = {}
    for scheme in differing:
        if scheme not in get_args(SchemeName):
            raise _bad(where, f"[scheme.{scheme}]: known are {', '.join(get_args(SchemeName))}")
        inside = f"{where}: scheme.{scheme}"
        variants[scheme] = _parse(merge(tables, _table(differing, scheme, where)), inside, rules)
    return replace(whole, variants=variants)


_Rules = dict[int, tuple[object, OpRule]]
"""Identity of a table -> the table, which must live as long, and its rule."""


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on it: tables are merged key by key, all else is replaced.

    ``false`` in the place of a table takes the table away.
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if value is False and isinstance(below, Mapping):
            del merged[key]
            continue
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _parse(description: Mapping[str, Any], where: str, rules: _Rules) -> Target:
    """``rules``: those of tables that are read already; most schemes leave most tables alone."""
    tables, ops = dict(description), {}
    for op, table in _table(tables, "ops", where).items():
        if table is False:
            continue  # what a scheme takes away may be missing already
        if id(table) not in rules:
            rules[id(table)] = table, _parse_rule(table, f"{where}: ops.{op}")
        ops[op] = rules[id(table)][1]
    tables["ops"] = ops
    kinds: Mapping[str, type[Any]] = {"saturation": Saturation, "accelerator": Accelerator}
    for key in kinds.keys() & tables.keys():
        tables[key] = _build(kinds[key], _table(tables, key, where), f"{where}: {key}")
    for role in ("activations", "weights", "bias"):
        tables[role] = _build(Numbers, _table(tables, role, where), f"{where}: {role}")
    return _build(Target, tables, where)


def _parse_rule(table: object, where: str) -> OpRule:
    if not isinstance(table, Mapping):
        raise _bad(where, "must be a table")
    entries = dict(table)
    for key, kind in (("fixed_output", FixedOutput), ("scale_ratio", ScaleRatio)):
        if key in entries:
            entries[key] = _build(kind, _table(entries, key, where), f"{where}.{key}")
    return _build(OpRule, entries, where)


def _table(tables: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    table = tables.get(key)
    if not isinstance(table, Mapping):
        raise _bad(where, f"table [{key}] is missing")
    return table


def _build(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = set(table) - known
    if unknown:
        raise _bad(
            where, f"unknown key {sorted(unknown)[0]!r}; known are {', '.join(sorted(known))}"
        )
    hints = _hints(kind)  # type: ignore[arg-type]
    entries = {key: _frozen(value) for key, value in table.items()}
    for key, value in entries.items():
        if not _fits(value, hints[key]):
            raise _bad(where, f"{key} must be {_name(hints[key])}, not {value!r}")
    try:
        return kind(**entries)
    except TypeError as error:  # a key without a default is missing; Python names it
        raise _bad(where, str(error).partition("() ")[2] or str(error)) from error


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """The annotations of a class as types; a description has a hundred rules of one class."""
    return get_type_hints(kind)


def _frozen(value: object) -> object:
    """Lists of a TOML file as tuples, at any depth."""
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    return value


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of the annotated type, for the kinds of annotation that ``Target`` has."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return any(_fits(value, arg) for arg in args)
    if origin is Literal:
        return value in args
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, args[0]) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(item, args[1]) for item in value.values())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _name(hint: Any) -> str:
    """An annotation in the words of a TOML file."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return " or ".join(_name(arg) for arg in args if arg is not NoneType)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin is tuple:
        return f"a list of {_name(args[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a table of {_name(args[1])}"
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(hint, f"a table [{getattr(hint, '__name__', hint)}]")


def _bad(where: str, what: str) -> QCompileError:
    return QCompileError(Code.BAD_TARGET_FILE, f"{where}: {what}")
