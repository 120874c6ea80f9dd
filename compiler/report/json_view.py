"""The report as JSON: the same bytes for the same findings.

Keys are sorted, floats carry six significant digits, an infinite or undefined figure is null, and
what a clock said (``measured``) is left out unless asked for: the file beside an artefact must not
change from one build to the next.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from qcompile.compiler.report.diff_model import AnyReport
from qcompile.compiler.report.model import SCHEMA_VERSION

_DERIVED = (
    "integer",
    "total",
    "macs_share",
    "drop_points",
    "rise_percent",
    "size_ratio",
    "fit_to_ship",
    "passed",
    "same",
    "verdict",
    "precision",
    "ratio",
)
"""Properties that are written like fields, because readers should not have to work them out."""

_PAIRS = ("options", "weight_types", "op_counts", "runtimes")
"""Fields that are pairs of a name and a value; they become objects."""


def report_json(report: AnyReport, *, measured: bool = False) -> str:
    """The report as one JSON object that ends in a newline.

    Args:
        report: of a build, a check, an inspection or a comparison; ``kind`` says which.
        measured: whether to put latency, seconds and memory under the key ``measured``.
    """
    view = {"kind": report.kind, "schema_version": SCHEMA_VERSION, **_object(report)}
    if not measured:
        view.pop("measured", None)
    return json.dumps(view, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _object(record: Any) -> dict[str, Any]:
    view = {f.name: _value(getattr(record, f.name)) for f in fields(record)}
    view.update(
        (name, _value(getattr(record, name)))
        for name in _DERIVED
        if isinstance(getattr(type(record), name, None), property)
    )
    for name in _PAIRS:
        if name in view:
            view[name] = dict(view[name])
    return view


def _value(value: Any) -> Any:
    if is_dataclass(value):
        return _object(value)
    if isinstance(value, tuple | list):
        return [_value(entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: _value(entry) for key, entry in value.items()}
    if isinstance(value, float):
        return rounded(value)
    return value


def rounded(value: float) -> float | None:
    """Six significant digits; None for a figure that is infinite or undefined."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
