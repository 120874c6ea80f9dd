"""Tells by content which files of PyTorch are what, and which of them can run code when loaded.

torch itself is not needed. A pickle runs what it says; an exported program is JSON and raw numbers,
but torch evaluates its symbolic expressions as Python, looks its operators up by dotted names from
the package ``torch`` on, and reads pickles and compiled libraries that lie in the archive.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from qcompile.core.errors import Code, QCompileError

_PICKLE_NAMES: Final = (".pt", ".pth")
_PROGRAM_NAMES: Final = (".pt2",)
_SAMPLES: Final = re.compile(r"[^/]+/data/sample_inputs/[^/]+\.pt")
"""The one pickle of a sound archive; ``torch_export`` lets torch read it by no other than its
restricted loader."""
_HARMLESS: Final = re.compile(
    r"[^/]+/(models/[^/]+\.json|data/(weights|constants)/[^/]+|archive_(format|version)|byteorder"
    r"|version|\.data/(version|serialization_id)|\.format_version|\.storage_alignment|extra/[^/]+)"
)
_OPERATOR: Final = re.compile(
    r"torch\.ops\.(aten|prim|prims|quantized_decomposed|higher_order|torchao|torchvision)"
    r"(\.[A-Za-z0-9][A-Za-z0-9_]*|\._[A-Za-z0-9][A-Za-z0-9_]*)+"
    r"|torch\.sym_[a-z]+|torch\._sym_sqrt|math\.[a-z]+[0-9]?|_operator\.[a-z]+"
)
_UNSAFE_OPERATORS: Final = re.compile(r"_operator\.(attrgetter|methodcaller|itemgetter|call)")
_FUNCTIONS: Final = """
    Symbol Add Mul Pow Rational positive negative nonnegative nonzero integer real even odd
    precision
    Abs And Eq Float FloatPow FloatTrueDiv FloorDiv Ge Gt IntTrueDiv Integer Identity Le Lt Max
    Min Mod ModularIndexing Ne Not Or Piecewise PowByNatural PythonMod RoundDecimal RoundToInt
    ToFloat TruncToFloat TruncToInt CeilToInt FloorToInt CleanDiv CeilDiv True False
    OpaqueUnaryFn_sqrt ceiling floor int_oo oo zoo nan
"""
"""What torch writes into the expressions of dimensions."""
_SYMBOL: Final = re.compile(r"[suzf]{1,2}\d+(_\d+)?")
_NAME: Final = re.compile(r"[\w.]*")
_WORD: Final = re.compile(r"[A-Za-z_]\w*")
_QUOTED: Final = re.compile(r"'([suzf]{1,2}\d+|-?[\d.]+(?:e[+-]?\d+)?)'")
_EXPRESSION: Final = re.compile(r"[\w\s+\-*/%(),<>=!&|~.]*")


def is_program(path: Path) -> bool:
    """Whether a file is an archive of ``torch.export.save``, or is named as one."""
    names = _members(path)
    if names is None:
        return path.suffix.lower() in _PROGRAM_NAMES
    ends = ("serialized_exported_program.json", "/archive_format")
    return any(name.endswith(ends) for name in names)


def is_pickle(path: Path) -> bool:
    """Whether a file is one of ``torch.save`` or ``torch.jit.save``, or is named as one."""
    names = _members(path)
    if names is None:
        return path.suffix.lower() in _PICKLE_NAMES
    return any(name.endswith(("/data.pkl", "/constants.pkl")) for name in names)


def why_untrusted(path: Path) -> str | None:
    """Why loading a file could run code that is in it, or None when it cannot.

    Raises:
        QCompileError: MODEL_TRUNCATED or MODEL_INVALID for an exported program that is none.
    """
    names = _members(path)
    if names is None:
        if path.suffix.lower() in _PROGRAM_NAMES:
            raise QCompileError(Code.MODEL_INVALID, f"{path} is no archive of torch.export.save")
        return "it is a pickle, which can name any function and call it"
    if len({name.lower() for name in names}) < len(names):
        return "its archive holds two files of one name, of which torch may read either"
    if any("/code/" in name for name in names):
        return "it holds the TorchScript code of a model and its pickles"
    pickle = next((name for name in names if name.endswith(".pkl")), None)
    if pickle is not None:
        return f"it holds the pickle {pickle}, which can name any function and call it"
    strange = next(
        (n for n in names if not _HARMLESS.fullmatch(n) and not _SAMPLES.fullmatch(n)), None
    )
    if strange is not None:
        return f"it holds {strange}, which may be a pickle or compiled code"
    return _why_untrusted_program(path)


def _members(path: Path) -> list[str] | None:
    """The names in a zip file, or None when it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name for name in archive.namelist() if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return None


def _why_untrusted_program(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".json"):
                    why = _why_untrusted_json(json.loads(archive.read(name)))
                    if why is not None:
                        return f"{name} {why}"
    except (OSError, zipfile.BadZipFile, ValueError, RecursionError, NotImplementedError) as error:
        raise QCompileError(
            Code.MODEL_INVALID, f"{path} is a damaged archive of torch.export.save: {error}"
        ) from error
    return None


def _why_untrusted_json(document: Any) -> str | None:
    for key, value in _entries(document):
        why = _why_untrusted_entry(key, value)
        if why is not None:
            return why
    return None


def _why_untrusted_entry(key: str, value: Any) -> str | None:
    if key == "use_pickle" and value is not False:
        return "says that some of its tensors are pickles"
    if key == "guards_code" and value:
        return "holds guards, which are Python"
    if key == "path_name" and _names_objects(value):
        return f"names the object {value}, which is a pickle"
    if not isinstance(value, str):
        return None
    if key == "target" and not _safe_operator(value):
        return f"calls {value[:80]}, which is no operator of a model"
    if key == "expr_str" and not _safe_expression(value):
        return f"holds the expression {value[:80]}, which torch would evaluate as Python"
    if key in ("name", "as_name") and not _NAME.fullmatch(value):
        return f"names a value {value[:80]}, which torch would write into Python code"
    return None


def _names_objects(value: Any) -> bool:
    return not isinstance(value, str) or value.startswith(
        ("custom_obj", "opaque_obj", "script_obj")
    )


def _safe_operator(target: str) -> bool:
    """An operator, or what is no dotted name at all (a signature's name of a tensor)."""
    known_roots = ("torch", "_operator", "math", "#")
    if not target.startswith(known_roots):
        return True
    if _UNSAFE_OPERATORS.fullmatch(target):
        return False
    return _OPERATOR.fullmatch(target) is not None


def _safe_expression(text: str) -> bool:
    """Numbers, symbols as torch names them, and functions that torch writes into expressions."""
    text = _QUOTED.sub(r"\1", text)
    functions, words = _FUNCTIONS.split(), _WORD.findall(text)
    return _EXPRESSION.fullmatch(text) is not None and all(
        word in functions or _SYMBOL.fullmatch(word) for word in words
    )


def _entries(document: Any) -> Iterator[tuple[str, Any]]:
    """Every key of every object in a JSON document, with its value."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
