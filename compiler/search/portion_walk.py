"""A walk through a graph, portion by portion: the rounding that leaves least error is chosen.

Nearest codes, GPTQ, AWQ and both together are tried for each portion, and judged on held-out rows;
the portions behind it see what it makes of the samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from qcompile.compiler.padding import text_positions
from qcompile.compiler.search.choice_arrays import from_arrays, to_arrays
from qcompile.compiler.search.partial import Partial, key_of
from qcompile.compiler.search.workshop import Job
from qcompile.core.executor import Feeds
from qcompile.core.notes import Note
from qcompile.core.numerics.affine import bit_width
from qcompile.core.plan import QuantPlan, Shared
from qcompile.core.stored import Stored
from qcompile.passes.rounding.group_gptq import Grid
from qcompile.passes.rounding.portion_choice import (
    ROWS_AN_INPUT,
    Evidence,
    LayerChoice,
    PortionChoice,
    choose_portion,
    effective,
)
from qcompile.passes.rounding.portions import Portion, Streams
from qcompile.passes.transform import awq
from qcompile.passes.transform.channels import Group

SWEEPS: Final = {"balanced": 4, "max": 10}
"""Effort -> sweeps of the descent behind GPTQ."""

ALPHAS: Final = {"balanced": awq.ALPHAS, "max": tuple(step / 20 for step in range(1, 21))}

TIED: Final = 0.5
"""What an error of a weight counts by itself, relative to the mean input, where a table of rows
shares it: whoever looks up rows sees the error itself. (On a language model with 2 and 4 bits, 0.3
to 1 are about alike, and leave 12 and 18 % less divergence from float than none.)"""


@dataclass
class Choices:
    """What was chosen so far, by weight and by group of channels."""

    layers: dict[str, tuple[LayerChoice, bool]] = field(default_factory=dict)
    """Weight -> its choice, and whether its inputs were scaled."""
    factors: dict[str, np.ndarray] = field(default_factory=dict)
    """Group of channels -> what AWQ divides it by."""
    scales: dict[str, np.ndarray] = field(default_factory=dict)
    """Weight -> what its columns are divided by, since the channels it makes were."""
    starved: list[Portion] = field(default_factory=list)
    """Portions that too few rows were seen of."""


class Walk:
    """One walk through the portions of a graph.

    Args:
        job: the model, the target and the samples.
        plan: with nearest codes, whose widths and groups stay.
        found: the portions of the graph.
        feeds: what weights are rounded for, and behind them what judges.
        count: how many of them weights are rounded for; the others judge, or where there are none
            these as well.
    """

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

    def run(self) -> Choices:
        """Choose for every portion, until the time is over."""
        job, choices = self.job, Choices()
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
                    self.partial.put(index, to_arrays(choice))
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

    def _take(self, choices: Choices, portion: Portion, choice: PortionChoice) -> None:
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
        return Grid(bit_width(entry.dtype), entry.group, symmetric, entry.narrow)

    def _rows(self, index: int, x: np.ndarray) -> np.ndarray:
        """Rows of a value of one sample, those of padding left out."""
        flat, text = x.reshape(-1, x.shape[-1]), self._texts[index]
        return flat if text is None or text.size != len(flat) else flat[text.reshape(-1)]

    def _kept(self, index: int, portion: Portion) -> PortionChoice | None:
        """What an interrupted run had chosen."""
        arrays = self.partial.get(index)
        return None if arrays is None else from_arrays(arrays, len(portion.layers))


def _notes(choices: Choices, total: int, resumed: int) -> list[Note]:
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
