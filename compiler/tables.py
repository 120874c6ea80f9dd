"""Reads a table of a configuration file into a frozen dataclass, checked by its annotations.

Known are str, int, float, bool, Path, tuples, Literal, unions, None, nested dataclasses and
mappings of names; a list becomes a tuple, a whole number passes for a float.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from qcompile.core.errors import Code, QCompileError

T = TypeVar("T")


def read_table(kind: type[T], table: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """Make a dataclass of a table.

    Args:
        kind: the dataclass; every field may be left out that has a default.
        table: the parsed table.
        where: the file, for messages.
        prefix: name of the table, for messages.

    Raises:
        QCompileError: BAD_CONFIG naming the file and the key: unknown (with the nearest that is
            known), missing, or of the wrong type.
    """
    # get_type_hints reads the annotations as types, also those written as text.
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise _unknown(_dotted(prefix, key), key, known, where)
    for key, field in known.items():
        if key not in table and field.default is MISSING and field.default_factory is MISSING:
            raise bad_config(where, f"{_dotted(prefix, key)} is missing")
    values = {
        key: _value(hints[key], value, where, _dotted(prefix, key)) for key, value in table.items()
    }
    try:
        return kind(**values)
    except QCompileError as error:
        raise QCompileError(error.code, f"{where}: {error.message}", hint=error.hint) from error


def bad_config(where: str, what: str, hint: str | None = None) -> QCompileError:
    """The error for something wrong in a configuration file."""
    return QCompileError(Code.BAD_CONFIG, f"{where}: {what}", hint=hint)


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    """The value as the annotation wants it."""
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise bad_config(where, f"{key} must be a table, not {value!r}")
        return read_table(hint, value, where, key)  # type: ignore[arg-type]
    found, converted = _match(hint, value)
    if not found:
        raise bad_config(where, f"{key} must be {_describe(hint)}, not {value!r}")
    return converted


def _match(hint: Any, value: Any) -> tuple[bool, Any]:
    """Whether a value has an annotated type, and the value as that type."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        matches = (_match(option, value) for option in get_args(hint))
        return next((match for match in matches if match[0]), (False, None))
    if origin is Literal:
        return value in get_args(hint) and not isinstance(value, bool), value
    if origin is tuple:
        return _match_list(get_args(hint), value)
    if origin is not None and issubclass(origin, Mapping):
        return _match_mapping(get_args(hint)[1], value)
    return _match_plain(hint, value)


def _match_plain(hint: Any, value: Any) -> tuple[bool, Any]:
    if hint is Any or hint is object:
        return True, _frozen(value)
    if hint is Path:
        return isinstance(value, str) and value != "", Path(value) if isinstance(
            value, str
        ) else None
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number, float(value) if number else None
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    return isinstance(value, hint), value


def _match_list(options: tuple[Any, ...], value: Any) -> tuple[bool, Any]:
    if not isinstance(value, list | tuple):
        return False, None
    if len(options) == 2 and options[1] is ...:
        matches = [_match(options[0], item) for item in value]
    elif len(options) == len(value):
        matches = [_match(option, item) for option, item in zip(options, value, strict=True)]
    else:
        return False, None
    return all(found for found, _ in matches), tuple(item for _, item in matches)


def _match_mapping(option: Any, value: Any) -> tuple[bool, Any]:
    if not isinstance(value, Mapping):
        return False, None
    matches = {key: _match(option, item) for key, item in value.items()}
    return all(found for found, _ in matches.values()), {
        k: item for k, (_, item) in matches.items()
    }


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


_WORDS = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false",
    Path: "a path", types.NoneType: "", object: "a value",
}  # fmt: skip


def _describe(hint: Any) -> str:
    """An annotation in words."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        words = (_describe(option) for option in options)
        return " or ".join(dict.fromkeys(word for word in words if word))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, options))
    if origin is tuple:
        if len(options) == 2 and options[1] is ...:
            return f"a list ({_describe(options[0])} each)"
        return "[" + ", ".join(_describe(option) for option in options) + "]"
    if origin is not None and issubclass(origin, Mapping):
        return f"a table ({_describe(options[1])} each)"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _unknown(dotted: str, key: str, known: Mapping[str, Any], where: str) -> QCompileError:
    near = get_close_matches(key, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return bad_config(where, f"unknown key {dotted!r}", hint)


def _dotted(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key
