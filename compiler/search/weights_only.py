"""Weight-only schemes with samples: each weight rounded by what leaves its output's error least.

What a walk through the portions of the graph chose (``portion_walk``) is kept as a whole, if the
model's outputs gain by it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler.planning import empty_plan
from qcompile.compiler.scoring import Scorer
from qcompile.compiler.search.departures import departures
from qcompile.compiler.search.efforts import LEAST_GAIN, held_out
from qcompile.compiler.search.portion_walk import Choices, Walk
from qcompile.compiler.search.recipe import Trial
from qcompile.compiler.search.workshop import Job
from qcompile.compiler.weights_only import BINARY, plan_stored
from qcompile.core.executor import Feeds
from qcompile.core.memory import give_back
from qcompile.core.notes import Note
from qcompile.core.on_disk import arrays_to_disk, to_disk
from qcompile.core.plan import QuantParams, QuantPlan, ValuePlan
from qcompile.core.stored import Stored, stored_weights
from qcompile.passes.rounding.portion_choice import LayerChoice
from qcompile.passes.rounding.portions import Portion, portions
from qcompile.passes.rounding.stored_choice import Chooser, StoredChoice, choose_stored
from qcompile.passes.rounding.stored_choice import nearest as usual_chooser
from qcompile.passes.transform import awq
from qcompile.passes.transform.table import transformed

MOST_ROWS: Final = 64
"""Rows an input of the deepest weight: more of them teach GPTQ nothing."""

LIVE_BYTES: Final = 256 << 20
"""Bytes that the activations of all samples may take where a portion begins, and at most
``LIVE_SHARE`` of the float weights' where those are larger."""

LIVE_SHARE: Final = 0.6

MOST_SCORED: Final = 32
"""Held-out samples that the whole is judged on."""


@dataclass(frozen=True)
class StoredFound:
    """The outcome of a search."""

    model: ir.Model
    """The graph the plan is laid on."""
    plan: QuantPlan
    trials: tuple[Trial, ...] = ()
    notes: tuple[Note, ...] = ()


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
    own = departures(job)
    notes = own.notes
    usual = plan_stored(
        job.model,
        job.target,
        job.scheme,
        job.progress,
        job.float_nodes,
        bits=own.bits,
        groups=own.groups,
    )
    if job.scheme.effort == "fast" or not len(job.feeds) or job.scheme.scheme == BINARY:
        return StoredFound(job.model, usual, notes=notes)
    found = portions(job.model.graph, usual)
    if not found:
        return StoredFound(job.model, usual, notes=notes)
    count, seen = _samples(job, found)
    feeds = [job.feeds[i] for i in (*range(count), *seen)]
    walk = Walk(job, usual, found, feeds, count)
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


def _made(job: Job, usual: QuantPlan, choices: Choices) -> tuple[ir.Model, QuantPlan]:
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


def _reason(layer: LayerChoice) -> str:
    least = layer.errors.get("nearest", 0.0)
    left = layer.errors[layer.method]
    if layer.method == "nearest" or least <= 0 or left <= 0:
        return ""
    return f"GPTQ leaves {left / least:.2f} of nearest codes' output error"


def _title(choices: Choices) -> str:
    gptq = sum(layer.method == "gptq" for layer, _ in choices.layers.values())
    text = f"GPTQ for {gptq} of {len(choices.layers)} weights"
    if choices.factors:
        text += f", AWQ for the inputs of {sum(s for _, s in choices.layers.values())}"
    return text
