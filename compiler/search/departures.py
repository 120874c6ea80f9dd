"""Widths and groups of single weights that are not the scheme's: tables', or within a size."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from qcompile.compiler.planning import empty_plan
from qcompile.compiler.search.bit_budget import widths_within
from qcompile.compiler.search.workshop import Job
from qcompile.compiler.weights_only import BINARY
from qcompile.core.notes import Note
from qcompile.core.numerics.affine import bit_width
from qcompile.core.plan import QuantPlan, Shared
from qcompile.core.stored import stored_weights

TABLE_BITS: Final = 4
"""Fewest bits of a table of rows: each token is one of them, and nothing makes good for its error.
(A language model of 3 bits loses 0.4 of perplexity by its embedding alone; in the container of 4
that 3 bits are stored in, it costs nothing not to.)"""

TABLE_GROUP: Final = 32
"""Most elements of a scale where larger groups were asked for, of a table that serves as head too.
(In groups of 128 a language model of 4 bits loses 0.1 of perplexity more by it, for 4 % of the
file.)"""

_TABLES: Final = (
    f"embeddings, and heads that share their numbers, have {TABLE_BITS} bits: a token's row is all "
    "there is of it"
)


@dataclass(frozen=True)
class Departures:
    """What single weights have in the place of what the scheme says."""

    bits: Mapping[str, int] = field(default_factory=dict)
    """Weight -> its width."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """Weight -> elements that share a scale."""
    notes: tuple[Note, ...] = ()


def departures(job: Job) -> Departures:
    """Widths by sensitivity where a size was asked for; else what tables need.

    Args:
        job: the model, the target and the samples.

    Raises:
        QCompileError: see ``bit_budget.widths_within``.
    """
    asked = job.scheme.bits_per_weight
    if asked is not None:
        widths = widths_within(job, asked)
        return Departures(widths, notes=(Note("info", _mixed(widths)),))
    plan = empty_plan(job.model, job.target, job.scheme, job.float_nodes)
    bits, groups = _wide_tables(job, plan), _table_groups(job, plan)
    notes = [Note("info", _TABLES)] if bits else []
    if groups:
        notes.append(Note("info", f"the tied embedding has groups of {TABLE_GROUP}"))
    return Departures(bits, groups, tuple(notes))


def _wide_tables(job: Job, plan: QuantPlan) -> dict[str, int]:
    """Tables of fewer than ``TABLE_BITS``, and what shares their numbers -> that width."""
    if job.scheme.scheme == BINARY:
        return {}
    found = {}
    for stored in stored_weights(job.model.graph, plan):
        entry = plan.values[stored.name]
        if stored.is_table and bit_width(entry.dtype) < TABLE_BITS and not entry.narrow:
            found[stored.name] = TABLE_BITS
            if isinstance(entry.relation, Shared):
                found[entry.relation.leader] = TABLE_BITS
    return found


def _table_groups(job: Job, plan: QuantPlan) -> dict[str, int]:
    """Tables that a matrix shares, and that matrix -> ``TABLE_GROUP``, where theirs are larger."""
    if job.scheme.group is None or TABLE_GROUP not in job.target.weights.groups:
        return {}
    tied = [
        name
        for table, entry in plan.values.items()
        if isinstance(entry.relation, Shared)
        for name in (table, entry.relation.leader)
    ]
    return {name: TABLE_GROUP for name in tied if plan.values[name].group > TABLE_GROUP}


def _mixed(widths: Mapping[str, int]) -> str:
    counts = {width: list(widths.values()).count(width) for width in sorted(set(widths.values()))}
    return "widths by sensitivity: " + ", ".join(f"{n} of {w} bits" for w, n in counts.items())
