"""What each TFLite operator takes, as data: ``operators.toml`` read into typed rows.

The writer takes operator versions from it, the verifier its rules, the proof the reasons why
XNNPACK leaves an operator to the slower kernels, the tests the deviations they may see.
"""

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import Any, Literal, get_args

from qcompile.core.errors import Code, QCompileError

Role = Literal["data", "weight", "bias", "index", "constant"]
"""``data`` is quantized; ``index`` is not (a condition, indices) and may be computed; ``constant``
is not and must be in the file (a shape, axes, paddings)."""

_FORM = re.compile(
    r"(?P<inputs>.*?)\s*->\s*(?P<outputs>.+?)\s+v(?P<version>\d+)(?P<marks>(?:\s+(?:xnn|micro))*)"
)


@dataclass(frozen=True)
class Form:
    """One combination of element types that an operator takes."""

    inputs: tuple[frozenset[str], ...]
    outputs: tuple[frozenset[str], ...]
    version: int
    """The version that says so; older runtimes than the one that knows it must refuse the file."""
    xnnpack: bool = False
    """Whether XNNPACK takes it, where neither ``Row.declines`` nor ``Row.ratio`` forbids."""
    micro: bool = False
    """Whether TFLite Micro takes it and computes what the reference kernels do."""
    optional: int = 0
    """How many inputs at the end may be left out."""
    repeats: bool = False
    """Whether the last input stands for all that follow, and the last output for all."""

    def takes(self, inputs: Sequence[str | None], outputs: Sequence[str]) -> bool:
        """Whether operands of these types fit; None is an input that is left out."""
        return self._fits(self.inputs, inputs, self.optional) and self._fits(
            self.outputs, outputs, 0
        )

    def _fits(
        self, wanted: Sequence[frozenset[str]], given: Sequence[str | None], optional: int
    ) -> bool:
        least = len(wanted) - optional
        if len(given) < least or (len(given) > len(wanted) and not self.repeats):
            return False
        for position, dtype in enumerate(given):
            if dtype is None:
                if position < least:
                    return False
            elif dtype not in wanted[min(position, len(wanted) - 1)]:
                return False
        return True


@dataclass(frozen=True)
class Ratio:
    """Scales for which XNNPACK takes an operator; outside it declines, or does not load."""

    of: Literal["product", "each"]
    """The product of the input scales over the output's, or each input's over the output's."""
    low: float
    """The least ratio that is taken."""
    high: float
    """The first ratio that is not taken any more."""
    required: bool = False
    """Whether the model does not load under XNNPACK outside, rather than run elsewhere."""


@dataclass(frozen=True)
class Row:
    """All that is known of one operator."""

    name: str
    inputs: tuple[Role, ...]
    forms: tuple[Form, ...]
    newest: Mapping[str, int]
    """Runtime -> the newest version of the operator that it registers."""
    outputs: tuple[Role, ...] = ("data",)
    same: bool = False
    """Whether all integer data, in and out, must carry equal parameters: the kernel moves integers
    without a look at them."""
    fixed: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """Type of the output -> the scale and zero point that the kernel takes for granted."""
    weight_axis: int | None = None
    """Axis along which the weight may have scales of its own."""
    fused: tuple[str, ...] = ("NONE",)
    """Activations that the operator can do as well."""
    nonnegative: bool = False
    """Whether an integer that stands for a negative number stops the run."""
    shape: str = ""
    """How the output's shape follows (``output_shapes``); empty where it is not checked."""
    ratio: Ratio | None = None
    declines: str = ""
    """When XNNPACK leaves the operator to the built-in kernels: one sentence."""
    lsb_builtin: int = 0
    """Largest deviation of the built-in kernels from the reference kernels, in steps, in int8."""
    lsb_xnnpack: int = 0
    """That of XNNPACK."""
    exact: bool = False
    """Whether the numpy reference gives the reference kernels' integers bit by bit."""
    reference: bool = True
    """Whether the reference kernels have it, and right."""

    def role(self, index: int) -> Role:
        """Role of input number ``index``."""
        return self.inputs[min(index, len(self.inputs) - 1)]

    def output_role(self, index: int) -> Role:
        """Role of output number ``index``."""
        return self.outputs[min(index, len(self.outputs) - 1)]

    def form(self, inputs: Sequence[str | None], outputs: Sequence[str]) -> Form | None:
        """The form that takes operands of these types."""
        return next((form for form in self.forms if form.takes(inputs, outputs)), None)


Table = Mapping[str, Row]


@functools.cache
def operator_table() -> Table:
    """The rows of ``operators.toml`` by operator name."""
    file = files("qcompile.targets.tflite") / "operators.toml"
    return parse_table(tomllib.loads(file.read_text(encoding="utf-8")), "operators.toml")


def why_not(
    table: Table, op: str, inputs: Sequence[str | None], outputs: Sequence[str], runtime: str
) -> str | None:
    """Why a runtime does not take an operator with operands of these types; None when it does."""
    row = table.get(op)
    if row is None:
        return f"{op} is not in the operator table"
    form = row.form(inputs, outputs)
    if form is None:
        given = " ".join(dtype or "-" for dtype in inputs)
        return f"{op} does not take {given} -> {' '.join(outputs)}"
    newest = row.newest.get(runtime, min(row.newest.values()))
    if form.version > newest:
        types = "/".join(sorted(form.inputs[0]))
        return f"{op} on {types} is version {form.version}; {runtime} knows {newest} at most"
    return None


def oldest_with(table: Table, versions: Iterable[tuple[str, int]], oldest: str) -> str:
    """The first runtime, from ``oldest`` on, that registers all operators in their versions.

    Args:
        table: the operator table.
        versions: operators and versions.
        oldest: a runtime; one that the table does not know is given back.
    """
    for op, version in versions:
        newest = table[op].newest if op in table else {}
        known = list(newest)
        for runtime in known[known.index(oldest) :] if oldest in known else ():
            if version <= newest[runtime]:
                oldest = runtime
                break
    return oldest


def version_of(
    table: Table, op: str, inputs: Sequence[str | None], outputs: Sequence[str]
) -> int | None:
    """The version to register for operands of these types; None when the table has no such form."""
    row = table.get(op)
    form = None if row is None else row.form(inputs, outputs)
    return None if form is None else form.version


def parse_table(data: Mapping[str, Any], where: str) -> Table:
    """Make rows of a parsed TOML file.

    Raises:
        QCompileError: BAD_TARGET_FILE naming the operator and what is wrong.
    """
    tables = dict(data)
    if tables.pop("schema", None) != 1:
        raise _bad(where, "schema must be 1")
    runtimes = tuple(tables.pop("runtimes", ()))
    if not runtimes:
        raise _bad(where, "runtimes are missing")
    return {
        name: _row(name, entries, runtimes, f"{where}: {name}") for name, entries in tables.items()
    }


def _row(name: str, entries: Mapping[str, Any], runtimes: tuple[str, ...], where: str) -> Row:
    known = {f.name for f in fields(Row)} - {"name"}
    unknown = set(entries) - known
    if unknown:
        raise _bad(where, f"unknown key {sorted(unknown)[0]!r}")
    made: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in entries.items()
    }
    for key in ("inputs", "outputs"):
        wrong = set(made.get(key, ())) - set(get_args(Role))
        if wrong:
            raise _bad(where, f"{sorted(wrong)[0]!r} is no role")
    made["newest"] = _newest(made.get("newest"), runtimes, where)
    made["forms"] = tuple(_form(text, where) for text in made.get("forms", ()))
    made["fixed"] = {k: (float(v[0]), int(v[1])) for k, v in made.get("fixed", {}).items()}
    try:
        if "ratio" in made:
            made["ratio"] = Ratio(**made["ratio"])
        return Row(name, **made)
    except TypeError as error:
        raise _bad(where, str(error)) from error


def _newest(given: object, runtimes: tuple[str, ...], where: str) -> dict[str, int]:
    numbers = (given,) * len(runtimes) if isinstance(given, int) else given
    if not isinstance(numbers, tuple) or len(numbers) != len(runtimes):
        raise _bad(where, f"newest must be one number or one for each of {', '.join(runtimes)}")
    return dict(zip(runtimes, numbers, strict=True))


def _form(text: str, where: str) -> Form:
    """Read ``int8 int8 int32? -> int8 v4 xnn``: ``a|b`` either, ``?`` optional, ``*`` repeated."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise _bad(where, f"{text!r} is no form: TYPES -> TYPES vN [xnn] [micro]")
    words = match["inputs"].split()
    return Form(
        tuple(frozenset(word.rstrip("?*").split("|")) for word in words),
        tuple(frozenset(word.rstrip("*").split("|")) for word in match["outputs"].split()),
        int(match["version"]),
        xnnpack="xnn" in match["marks"].split(),
        micro="micro" in match["marks"].split(),
        optional=sum(word.endswith("?") for word in words),
        repeats="*" in text,
    )


def _bad(where: str, what: str) -> QCompileError:
    return QCompileError(Code.BAD_TARGET_FILE, f"{where}: {what}")
