"""``--bits-per-weight``: widths by sensitivity, so that all weights together keep to a size.

What is stored of a weight counts: its codes, and the scale and zero point of each group. Weights
that read the same value have one width, and so have a table and the matrix that shares its numbers.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler.planning import empty_plan
from qcompile.compiler.scoring import Scorer
from qcompile.compiler.search.efforts import held_out
from qcompile.compiler.search.workshop import Job
from qcompile.core.errors import Code, QCompileError
from qcompile.core.numerics.grouped import fitted_params, from_codes, to_codes
from qcompile.core.plan import QuantPlan, Shared, ValuePlan
from qcompile.core.stored import Stored, as_columns, stored_weights

WIDTHS: Final = (2, 4, 8)
"""Bits of codes that containers have; 3 would take the room of 4."""

SAMPLES: Final = 4
"""Samples that sensitivities are measured on."""

SCALE_BITS: Final = 32


@dataclass(frozen=True, eq=False)
class Unit:
    """Weights that have one width."""

    stored: tuple[Stored, ...]
    names: tuple[str, ...]
    """Theirs, and those of tables that are tied to them."""
    bits: Mapping[int, float]
    """Width -> bits that are stored, in all."""
    noise: Mapping[int, float]
    """Width -> relative noise of the outputs where only these weights are rounded."""


def widths_within(job: Job, asked: float) -> dict[str, int]:
    """Weight -> width, so that on average ``asked`` bits a weight are stored, or fewer.

    Each unit is rounded alone to the fewest bits, and its noise in the outputs is measured on
    calibration samples; with more bits it is less by as much as the error of the weights is. Bits
    then go where a bit takes most noise away.

    Args:
        job: the model, the target and the samples.
        asked: bits a weight.

    Raises:
        QCompileError: BAD_OPTION for less than the fewest bits take; NO_DATA without samples.
    """
    if not len(job.feeds):
        raise QCompileError(
            Code.NO_DATA,
            "--bits-per-weight measures which layers need their bits, and there are no samples",
            hint="give calibration data with -d",
        )
    plan = empty_plan(job.model, job.target, job.scheme, job.float_nodes)
    known = tuple(w for w in WIDTHS if f"w{w}" in job.target.schemes)
    found = _units(job, plan, known)
    elements = sum(s.rows * s.columns for unit in found for s in unit.stored)
    least = sum(unit.bits[known[0]] for unit in found) / max(elements, 1)
    if asked < least:
        fewest = f"{math.ceil(100 * least) / 100:.2f}"
        grouped = "group" in job.target.weights.granularity
        raise QCompileError(
            Code.BAD_OPTION,
            f"--bits-per-weight {asked:g}: the fewest are {fewest}, scales included",
            hint="larger groups take fewer bits: --granularity group:128"
            if grouped
            else f"ask for {fewest} or more",
        )
    chosen = allot([(u.bits, u.noise) for u in found], asked * elements)
    return {name: width for unit, width in zip(found, chosen, strict=True) for name in unit.names}


def allot(
    units: Sequence[tuple[Mapping[int, float], Mapping[int, float]]], budget: float
) -> list[int]:
    """The width of each unit: the step that takes most noise away a bit is taken, until none fits.

    Args:
        units: for each, width -> bits it takes, and width -> noise it makes.
        budget: bits for all.
    """
    chosen = [min(bits) for bits, _ in units]
    left = budget - sum(bits[w] for (bits, _), w in zip(units, chosen, strict=True))
    while True:
        best, gain = None, 0.0
        for i, (bits, noise) in enumerate(units):
            for width in bits:
                more = bits[width] - bits[chosen[i]]
                if width > chosen[i] and more <= left:
                    rate = (noise[chosen[i]] - noise[width]) / max(more, 1e-9)
                    if rate > gain:
                        best, gain = (i, width, more), rate
        if best is None:
            return chosen
        index, width, more = best
        chosen[index] = width
        left -= more


def _units(job: Job, plan: QuantPlan, known: Sequence[int]) -> list[Unit]:
    tied: dict[str, list[str]] = {}
    for name, entry in plan.values.items():
        if isinstance(entry.relation, Shared):
            tied.setdefault(entry.relation.leader, []).append(name)
    groups: dict[str, dict[str, Stored]] = {}
    for stored in stored_weights(job.model.graph, plan):
        entry = plan.values[stored.name]
        if isinstance(entry.relation, Shared) or any(stored.name in g for g in groups.values()):
            continue
        source = stored.node.inputs[0]
        key = stored.name if stored.is_table or source is None else source.name or ""
        groups.setdefault(key, {})[stored.name] = stored
    seen = len(job.feeds) - held_out(len(job.feeds))
    feeds = [job.feeds[i] for i in range(min(SAMPLES, seen))]
    scorer = Scorer(job.model, job.executor, feeds, job.scheme.threads)
    made = []
    with job.progress.stage("measure which weights need their bits", len(groups)) as counter:
        for of in groups.values():
            together = tuple(of.values())
            extra = tuple(name for s in together for name in tied.get(s.name, ()))
            made.append(_unit(job, scorer, plan, together, extra, known))
            counter.advance()
    return made


def _unit(
    job: Job,
    scorer: Scorer,
    plan: QuantPlan,
    stored: tuple[Stored, ...],
    tied: tuple[str, ...],
    known: Sequence[int],
) -> Unit:
    entries = [plan.values[s.name] for s in stored]
    symmetric = bool(job.scheme.symmetric)
    floats = [np.asarray(s.matrix(), np.float32) for s in stored]
    errors: dict[int, float] = {}
    rounded: dict[str, np.ndarray] = {}
    for width in known:
        made = [
            _nearest(w, width, e.group, symmetric) for w, e in zip(floats, entries, strict=True)
        ]
        errors[width] = sum(
            float(np.sum((w - m) ** 2, dtype=np.float64)) for w, m in zip(floats, made, strict=True)
        )
        rounded = rounded or {s.name: m for s, m in zip(stored, made, strict=True)}
    first = known[0]
    noise = 10.0 ** (-scorer.of_graph(_with(job.model, plan, stored, rounded, tied)) / 10.0)
    share = noise / (errors[first] or 1.0)
    bits = {
        width: sum(_bits(s, e, width, symmetric) for s, e in zip(stored, entries, strict=True))
        for width in known
    }
    names = (*(s.name for s in stored), *tied)
    return Unit(stored, names, bits, {width: share * errors[width] for width in known})


def _nearest(weight: np.ndarray, bits: int, group: int, symmetric: bool) -> np.ndarray:
    params = fitted_params(weight, bits, group, symmetric)
    return from_codes(to_codes(weight, params, bits, group), params, group)


def _bits(stored: Stored, entry: ValuePlan, width: int, symmetric: bool) -> float:
    """Bits that a weight takes: codes, scales and zero points."""
    groups = -(-stored.rows // entry.group) * stored.columns
    each = SCALE_BITS + (0 if symmetric else width)
    return float(stored.rows * stored.columns * width + groups * each)


def _with(
    model: ir.Model,
    plan: QuantPlan,
    stored: Iterable[Stored],
    rounded: Mapping[str, np.ndarray],
    tied: Iterable[str],
) -> ir.Model:
    """The float model but for these weights, and the tables that are tied to them."""
    clone = model.clone()
    arrays = {s.name: as_columns(rounded[s.name], s.axis) for s in stored}
    for name in tied:
        entry = plan.values[name]
        assert isinstance(entry.relation, Shared)
        leader = plan.values[entry.relation.leader]
        array = arrays[leader.name]
        arrays[name] = array if leader.axis == entry.axis else array.T
    for name, array in arrays.items():
        clone.graph.initializers[name].const_value = ir.tensor(
            np.ascontiguousarray(array), name=name
        )
    return clone
