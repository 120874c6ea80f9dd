"""The targets that exist: description files found by name, or one of the user's own by path."""

import difflib
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from qcompile.core.errors import Code, QCompileError
from qcompile.core.target import Target
from qcompile.core.target_file import merge, parse_target

_DESCRIPTIONS = "qcompile.targets.descriptions"


def target_names() -> tuple[str, ...]:
    """Names of the targets that come with qcompile, sorted."""
    return tuple(sorted(stem for stem in _descriptions() if not stem.startswith("_")))


def load_target(name_or_path: str | Path) -> Target:
    """Read a target by name, or from a description file of the user's own.

    A file may say ``base = "NAME"``: it then holds only what differs from the file of that name
    (``_NAME.toml`` for a base that is no target by itself), table by table and key by key;
    ``Tile = false`` takes the table ``Tile`` of the base away.

    Args:
        name_or_path: a name from ``target_names()``, or a path that ends in ``.toml``.

    Raises:
        QCompileError: UNKNOWN_TARGET naming the nearest target and all of them; BAD_TARGET_FILE
            naming the file and the key.

    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        tables = _read(path, str(path))
        return parse_target(_with_base(tables, str(path), ()), str(path))
    name = str(name_or_path)
    if name not in target_names():
        raise _unknown(name)
    where = f"{name}.toml"
    return parse_target(_with_base(_read(_descriptions()[name], where), where, (name,)), where)


def _descriptions() -> dict[str, Traversable]:
    """The description files that come with qcompile, by name without ``.toml``."""
    found: Iterator[Traversable] = files(_DESCRIPTIONS).iterdir()
    return {entry.name[:-5]: entry for entry in found if entry.name.endswith(".toml")}


def _with_base(tables: dict[str, Any], where: str, seen: tuple[str, ...]) -> dict[str, Any]:
    base = tables.pop("base", None)
    if base is None:
        return tables
    known = _descriptions()
    stem = next((s for s in (base, f"_{base}") if s in known), None)
    if stem is None:
        raise QCompileError(Code.BAD_TARGET_FILE, f"{where}: base {base!r} does not exist")
    if stem in seen:
        raise QCompileError(Code.BAD_TARGET_FILE, f"{where}: base {base!r} leads back to itself")
    below = _read(known[stem], f"{stem}.toml")
    return merge(_with_base(below, f"{stem}.toml", (*seen, stem)), tables)


def _read(file: Path | Traversable, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        what = f"{where}: {error.strerror or error}"
        hint = f"targets by name are {', '.join(target_names())}"
        raise QCompileError(Code.UNKNOWN_TARGET, what, hint=hint) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise QCompileError(Code.BAD_TARGET_FILE, f"{where}: no TOML: {error}") from error


def _unknown(name: str) -> QCompileError:
    names = target_names()
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    hint = f"did you mean {near[0]}? " if near else ""
    hint += f"Targets are {', '.join(names)}; a path to a .toml file of your own works too"
    return QCompileError(Code.UNKNOWN_TARGET, f"there is no target {name!r}", hint=hint)
