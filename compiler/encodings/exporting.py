"""A plan's scales as encodings of the user's model, for other tools to read."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from qcompile.compiler.encodings.record import Encoding
from qcompile.compiler.encodings.source import SourceModel
from qcompile.core import graph as g
from qcompile.core.plan import QuantPlan, ValuePlan


@dataclass(frozen=True, eq=False)
class Exported:
    """The encodings of a plan."""

    encodings: tuple[Encoding, ...]
    """In the order of the plan."""
    left_out: Mapping[str, str]
    """Names of values with a scale that the model has not, or has with other numbers -> why."""


def encodings_of(plan: QuantPlan, graph: ir.Graph, source: SourceModel | None = None) -> Exported:
    """The scales of activations and weights; those of biases follow from them in every tool.

    Args:
        plan: complete.
        graph: the canonical float graph of the plan.
        source: the user's model, when the encodings are to be for it and not for the prepared one:
            what preparation made or changed is then left out.
    """
    values = {value.name or "": value for value in g.values(graph)}
    found: list[Encoding] = []
    left_out: dict[str, str] = {}
    for name, entry in plan.values.items():
        if entry.role == "bias" or entry.params is None:
            continue
        value = values.get(name)
        why = _why_not(value, source)
        if why is not None or value is None:
            left_out[name] = why or ""
        else:
            found.append(_encoding(entry, value))
    return Exported(tuple(found), left_out)


def _why_not(value: ir.Value | None, source: SourceModel | None) -> str | None:
    if value is None:
        return "a value is read in two types, and this is the second"
    if source is None or source.is_unchanged(value):
        return None
    if value.name in source.values:
        return "preparation has folded something into these numbers"
    return "preparation has made it"


def _encoding(entry: ValuePlan, value: ir.Value) -> Encoding:
    assert entry.params is not None
    return Encoding(
        entry.name,
        entry.dtype,
        entry.params,
        entry.axis if entry.params.scale.ndim else None,
        entry.symmetric,
        g.constant(value) is not None,
    )
