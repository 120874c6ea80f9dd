"""Weight-only schemes with samples: each weight rounded by what leaves its output's error least.

Portion by portion (weights that read one value) nearest codes, GPTQ, AWQ and both together are
tried and judged on held-out rows; the whole is kept if the model's outputs gain by it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler.padding import text_positions
from qcompile.compiler.planning import empty_plan
from qcompile.compiler.scoring import Scorer
from qcompile.compiler.search.bit_budget import widths_within
from qcompile.compiler.search.efforts import LEAST_GAIN, held_out
from qcompile.compiler.search.partial import Partial, key_of
from qcompile.compiler.search.recipe import Trial
from qcompile.compiler.search.workshop import Job
from qcompile.compiler.weights_only import BINARY, plan_stored
from qcompile.core.executor import Feeds
from qcompile.core.memory import give_back
from qcompile.core.notes import Note
from qcompile.core.on_disk import arrays_to_disk, to_disk
from qcompile.core.plan import QuantParams, QuantPlan, Shared, ValuePlan
from qcompile.core.stored import Stored, stored_weights
from qcompile.passes.rounding.group_gptq import Grid, Rounded
from qcompile.passes.rounding.portion_choice import (
    ROWS_AN_INPUT,
    Evidence,
    LayerChoice,
    PortionChoice,
    choose_portion,
    effective,
)
from qcompile.passes.rounding.portions import Portion, Streams, portions
from qcompile.passes.rounding.stored_choice import Chooser, StoredChoice, bits_of, choose_stored
from qcompile.passes.rounding.stored_choice import nearest as usual_chooser
from qcompile.passes.transform import awq
from qcompile.passes.transform.channels import Group
from qcompile.passes.transform.table import transformed

SWEEPS: Final = {"balanced": 4, "max": 10}
"""Effort -> sweeps of the descent behind GPTQ."""

ALPHAS: Final = {"balanced": awq.ALPHAS, "max": tuple(step / 20 for step in range(1, 21))}

MOST_ROWS: Final = 64
"""Rows an input of the deepest weight: more of them teach GPTQ nothing."""

LIVE_BYTES: Final = 256 << 20
"""Bytes that the activations of all samples may take where a portion begins, and at most
``LIVE_SHARE`` of the float weights' where those are larger."""

LIVE_SHARE: Final = 0.6

TIED: Final = 0.5
"""What an error of a weight counts by itself, relative to the mean input, where a table of rows
shares it: whoever looks up rows sees the error itself. (On a language model with 2 and 4 bits, 0.3
to 1 are about alike, and leave 12 and 18 % less divergence from float than none.)"""

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

MOST_SCORED: Final = 32
"""Held-out samples that the whole is judged on."""

METHODS: Final = {"nearest": "nearest", "gptq": "GPTQ"}
"""What reports call the ways to round."""


@dataclass(frozen=True)
class StoredFound:
    """The outcome of a search."""

    model: ir.Model
    """The graph the plan is laid on."""
    plan: QuantPlan
    trials: tuple[Trial, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass
class _Choices:
    """What was chosen so far, by weight and by group of channels."""

    layers: dict[str, tuple[LayerChoice, bool]] = field(default_factory=dict)
    """Weight -> its choice, and whether its inputs were scaled."""
    factors: dict[str, np.ndarray] = field(default_factory=dict)
    """Group of channels -> what AWQ divides it by."""
    scales: dict[str, np.ndarray] = field(default_factory=dict)
    """Weight -> what its columns are divided by, since the channels it makes were."""
    starved: list[Portion] = field(default_factory=list)
    """Portions that too few rows were seen of."""


def search_stored(job: Job) -> StoredFound:
    """The best plan of a weight-only scheme that effort and samples allow.

    ``fast``, and every effort without samples, rounds to nearest with searched scales. The others
    walk through the graph (``passes.rounding.portions``); where the walk does not pay, by the
    outputs on held-out samples, nearest codes are kept.

    Args:
        job: the model, the target and the samples.

    Raises:
        QCompileError: see ``bit_budget.widths_within``.
    """
    asked = job.scheme.bits_per_weight
    wide = {} if asked is not None else _wide_tables(job)
    notes = [Note("info", _TABLES)] if wide else []
    groups = {} if asked is not None else _table_groups(job)
    if groups:
        notes.append(Note("info", f"the tied embedding has groups of {TABLE_GROUP}"))
    widths = wide if asked is None else widths_within(job, asked)
    if asked is not None:
        notes.append(Note("info", _mixed(widths)))
    usual = plan_stored(
        job.model,
        job.target,
        job.scheme,
        job.progress,
        job.float_nodes,
        bits=widths,
        groups=groups,
    )
    if job.scheme.effort == "fast" or not len(job.feeds) or job.scheme.scheme == BINARY:
        return StoredFound(job.model, usual, notes=tuple(notes))
    found = portions(job.model.graph, usual)
    if not found:
        return StoredFound(job.model, usual, notes=tuple(notes))
    count, seen = _samples(job, found)
    feeds = [job.feeds[i] for i in (*range(count), *seen)]
    walk = _Walk(job, usual, found, feeds, count)
    choices = walk.run()
    title = _title(choices)
    model, plan = _made(job, usual, choices)
    del choices
    plan.rounded = arrays_to_disk(plan.rounded)
    give_back()
    held = feeds[count:][:MOST_SCORED] or feeds[:MOST_SCORED]
    scorer = Scorer(job.model, job.executor, held, job.scheme.threads)
    with job.progress.stage("score"):
        before, after = scorer.judge(usual), scorer.judge(plan, model)
    kept = after.db >= before.db + LEAST_GAIN
    trial = Trial(
        title,
        before.db,
        after.db,
        kept,
        before.agreement,
        after.agreement,
        walk.seconds,
    )
    walk.partial.clear()
    best = (model, plan) if kept else (job.model, usual)
    return StoredFound(*best, (trial,), (*notes, *walk.notes))


def _wide_tables(job: Job) -> dict[str, int]:
    """Tables of fewer than ``TABLE_BITS``, and what shares their numbers -> that width."""
    if job.scheme.scheme == BINARY:
        return {}
    plan = empty_plan(job.model, job.target, job.scheme, job.float_nodes)
    found = {}
    for stored in stored_weights(job.model.graph, plan):
        entry = plan.values[stored.name]
        if stored.is_table and bits_of(entry) < TABLE_BITS and not entry.narrow:
            found[stored.name] = TABLE_BITS
            if isinstance(entry.relation, Shared):
                found[entry.relation.leader] = TABLE_BITS
    return found


def _table_groups(job: Job) -> dict[str, int]:
    """Tables that a matrix shares, and that matrix -> ``TABLE_GROUP``, where theirs are larger."""
    plan = empty_plan(job.model, job.target, job.scheme, job.float_nodes)
    if job.scheme.group is None or TABLE_GROUP not in job.target.weights.groups:
        return {}
    tied = [
        name
        for table, entry in plan.values.items()
        if isinstance(entry.relation, Shared)
        for name in (table, entry.relation.leader)
    ]
    return {name: TABLE_GROUP for name in tied if plan.values[name].group > TABLE_GROUP}


class _Walk:
    """One walk through the portions of a graph, with what it chose."""

    def __init__(
        self,
        job: Job,
        plan: QuantPlan,
        found: Sequence[Portion],
        feeds: Sequence[Feeds],
        count: int,
    ) -> None:
        self.job, self.plan, self.found, self.count = job, plan, found, count
        self.feeds = feeds
        self.notes: list[Note] = []
        self.seconds = 0.0
        scheme = job.scheme
        bits = {name: entry.dtype for name, entry in plan.values.items()}
        options = (scheme.name, scheme.granularity, scheme.symmetric, scheme.effort, bits, count)
        key = key_of(plan.fingerprint, options, feeds)
        self.partial = Partial(scheme.partial, key)
        self._texts = [text_positions(feed) for feed in feeds]
        self._tied = {
            entry.relation.leader
            for entry in plan.values.values()
            if isinstance(entry.relation, Shared)
        }
        self._groups = awq.scalable(job.model.graph)

    def run(self) -> _Choices:
        """Choose for every portion, until the time is over."""
        job, choices = self.job, _Choices()
        held = range(self.count, len(self.feeds)) or range(self.count)
        streams = Streams(
            job.model,
            self.found,
            job.executor,
            self.feeds,
            self._rows,
            drifting=True,
            threads=job.scheme.threads,
        )
        start = job.budget.spent
        with job.progress.stage("round weights", len(self.found)) as counter:
            for index, portion in enumerate(self.found):
                if job.budget.is_spent:
                    self.notes.append(
                        Note("info", f"time was over after {index} of {len(self.found)} portions")
                    )
                    break
                streams.reach(index)
                choice = self._kept(index, portion)
                if choice is None:
                    seen = Evidence(
                        streams.seen(index, range(self.count)), streams.seen(index, held)
                    )
                    choice = self._choose(portion, seen)
                    self.partial.put(index, _arrays(choice))
                    if not seen.suffices:
                        choices.starved.append(portion)
                self._take(choices, portion, choice)
                if index + 1 < len(self.found):  # nothing reads on behind the last one
                    grids = map(self._grid, portion.layers)
                    made = zip(portion.layers, choice.layers, grids, strict=True)
                    streams.put(
                        index,
                        {one.name: effective(layer, g, choice.factors) for one, layer, g in made},
                    )
                counter.advance()
        self.seconds = job.budget.spent - start
        self.notes += _notes(choices, len(self.found), self.partial.resumed)
        return choices

    def _choose(self, portion: Portion, seen: Evidence) -> PortionChoice:
        effort, threads = self.job.scheme.effort, self.job.scheme.threads
        weights = [np.asarray(stored.matrix(), np.float32) for stored in portion.layers]
        grids = [self._grid(stored) for stored in portion.layers]
        if any(stored.name in self._tied for stored in portion.layers):
            seen = Evidence(seen.fit.ridged(TIED), seen.held.ridged(TIED))
        factors = None
        if self._group(portion) is not None and seen.fit.rows:
            factors = awq.best_factors(seen.fit.gram, weights, grids, ALPHAS[effort], threads)
        return choose_portion(weights, grids, seen, factors, sweeps=SWEEPS[effort], threads=threads)

    def _group(self, portion: Portion) -> Group | None:
        """The channels that a portion reads, where factors can go and tie nothing apart."""
        group = self._groups.get(portion.value)
        if group is None or any(stored.name in self._tied for stored in portion.layers):
            return None
        written = {layer.node.inputs[1] for layer in group.writers}
        return None if any(v is not None and v.name in self._tied for v in written) else group

    def _take(self, choices: _Choices, portion: Portion, choice: PortionChoice) -> None:
        scaled = choice.factors is not None
        for stored, layer in zip(portion.layers, choice.layers, strict=True):
            choices.layers[stored.name] = layer, scaled
        group = self._group(portion)
        if choice.factors is None or group is None:
            return
        choices.factors[group.key] = choice.factors
        for writer in group.writers:
            weight = writer.node.inputs[1]
            if weight is not None:
                choices.scales[weight.name or ""] = choice.factors

    def _grid(self, stored: Stored) -> Grid:
        entry = self.plan.values[stored.name]
        symmetric = bool(self.job.scheme.symmetric) or entry.narrow
        return Grid(bits_of(entry), entry.group, symmetric, entry.narrow)

    def _rows(self, index: int, x: np.ndarray) -> np.ndarray:
        """Rows of a value of one sample, those of padding left out."""
        flat, text = x.reshape(-1, x.shape[-1]), self._texts[index]
        return flat if text is None or text.size != len(flat) else flat[text.reshape(-1)]

    def _kept(self, index: int, portion: Portion) -> PortionChoice | None:
        """What an interrupted run had chosen."""
        arrays = self.partial.get(index)
        return None if arrays is None else _choice(arrays, len(portion.layers))


def _samples(job: Job, found: Sequence[Portion]) -> tuple[int, range]:
    """How many of the first samples weights are rounded for, and which others judge.

    As many as are worth it (``MOST_ROWS``) and can be held at once (``LIVE_BYTES``).
    """
    total, apart = len(job.feeds), held_out(len(job.feeds))
    tokens = max(_rows_of(job.feeds[0]), 1)
    depths = [portion.rows for portion in found]
    weights = sum(s.rows * s.columns for p in found for s in p.layers)
    each = 2 * 4 * tokens * (max(depths) + min(depths))
    most = max(int(max(LIVE_BYTES, LIVE_SHARE * 4 * weights) // each), 2)
    wanted = math.ceil(MOST_ROWS * max(depths) / tokens)
    held = min(apart, MOST_SCORED, max(most // 8, 1))
    count = max(min(total - apart, wanted, most - held), 1)
    return count, range(total - held, total) if apart else range(0)


def _rows_of(feed: Feeds) -> int:
    """About how many rows a sample gives: its tokens, or its batch."""
    return max(
        (
            math.prod(a.shape) if a.dtype.kind in "iu" and a.ndim > 1 else int(a.shape[0])
            for a in feed.values()
            if a.ndim
        ),
        default=1,
    )


def _made(job: Job, usual: QuantPlan, choices: _Choices) -> tuple[ir.Model, QuantPlan]:
    """The transformed model, and its plan with everything that was chosen."""
    transforms = {awq.NAME: choices.factors} if choices.factors else {}
    model = transformed(job.model, transforms)
    to_disk(model)
    plan = empty_plan(model, job.target, job.scheme, job.float_nodes, fingerprint=usual.fingerprint)
    plan.transforms = dict(transforms)
    for name, entry in plan.values.items():
        before = usual.values[name]
        plan.values[name] = replace(entry, dtype=before.dtype, group=before.group)
    names = {stored.name for stored in stored_weights(model.graph, plan)}
    choosers: dict[str, Chooser] = {
        name: _chooser(layer, scaled, choices.scales.get(name), bool(job.scheme.symmetric))
        for name, (layer, scaled) in choices.layers.items()
        if name in names
    }
    choose_stored(model.graph, plan, choosers, usual_chooser(job.scheme.symmetric))
    return model, plan


def _chooser(
    layer: LayerChoice, scaled: bool, columns: np.ndarray | None, symmetric: bool
) -> Chooser:
    def choose(stored: Stored, entry: ValuePlan) -> StoredChoice:
        params = layer.rounded.params
        if columns is not None:
            step = (params.scale / columns[np.newaxis]).astype(np.float32)
            params = QuantParams(step, params.zero_point)
        rule = f"awq+{layer.method}" if scaled else layer.method
        middle = symmetric or entry.narrow
        planned = replace(entry, symmetric=middle, params=params, rule=rule)
        return StoredChoice(replace(planned, reason=_reason(layer)), layer.rounded.codes)

    return choose


def _mixed(widths: Mapping[str, int]) -> str:
    counts = {width: list(widths.values()).count(width) for width in sorted(set(widths.values()))}
    return "widths by sensitivity: " + ", ".join(f"{n} of {w} bits" for w, n in counts.items())


def _reason(layer: LayerChoice) -> str:
    least = layer.errors.get("nearest", 0.0)
    left = layer.errors[layer.method]
    if layer.method == "nearest" or least <= 0 or left <= 0:
        return ""
    return f"{METHODS[layer.method]} leaves {left / least:.2f} of nearest codes' output error"


def _title(choices: _Choices) -> str:
    gptq = sum(layer.method == "gptq" for layer, _ in choices.layers.values())
    text = f"GPTQ for {gptq} of {len(choices.layers)} weights"
    if choices.factors:
        text += f", AWQ for the inputs of {sum(s for _, s in choices.layers.values())}"
    return text


def _notes(choices: _Choices, total: int, resumed: int) -> list[Note]:
    notes = []
    if resumed:
        notes.append(Note("info", f"taken up again after {resumed} of {total} portions"))
    if choices.starved:
        depth = max(portion.rows for portion in choices.starved)
        count = sum(len(portion.layers) for portion in choices.starved)
        notes.append(
            Note(
                "warning",
                f"GPTQ was not tried for {count} weights: it needs {ROWS_AN_INPUT} tokens for each "
                f"of up to {depth} inputs, {ROWS_AN_INPUT * depth} in all; give more samples",
            )
        )
    return notes


def _arrays(choice: PortionChoice) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    if choice.factors is not None:
        arrays["factors"] = choice.factors
    for i, layer in enumerate(choice.layers):
        arrays[f"{i}/codes"] = layer.rounded.codes
        arrays[f"{i}/scale"] = layer.rounded.params.scale
        arrays[f"{i}/zero"] = layer.rounded.params.zero_point
        arrays[f"{i}/methods"] = np.array([layer.method, *layer.errors])
        arrays[f"{i}/errors"] = np.array(list(layer.errors.values()), np.float64)
    return arrays


def _choice(arrays: Mapping[str, np.ndarray], count: int) -> PortionChoice:
    layers = []
    for i in range(count):
        params = QuantParams(arrays[f"{i}/scale"], arrays[f"{i}/zero"])
        method, *names = map(str, arrays[f"{i}/methods"])
        errors = dict(zip(names, map(float, arrays[f"{i}/errors"]), strict=True))
        rounded = Rounded(arrays[f"{i}/codes"], params)
        layers.append(LayerChoice(rounded, "gptq" if method == "gptq" else "nearest", errors))
    return PortionChoice(tuple(layers), arrays.get("factors"))
