"""``-d none``: the best build that needs no samples, and what samples would buy.

1. Static scales, where the model itself says how far its values reach (``known_ranges``: batch
   normalizations that were folded, clips, bounded functions, the pixels' range). Chosen when at
   least ``ENOUGH`` of the multiply-adds become integer without a guess; then ranges are guessed
   over ``MOST_LAYERS`` more, and what nothing is known of stays float.
2. Else ``w8a8-dynamic``, where it makes as much integer: scales are found as the model runs.
3. Else ``fp16``, where the target prefers it; else ``w8a8-dynamic`` for what little it makes
   integer, and at last ``float``.

A static scheme that was asked for by name is built with as much as there is, guesses over
``MOST_GUESSES`` layers included. Noise is never used for data.

Without data, against 125 or 100 pictures, on calibration pictures (effort fast): MobileNet v1 with
its Relu6, no normalization left: 23.2 dB and 98.4 % agreement, against 24.1 and 99.2; 11.4 dB
without the biases repaired for the expected input. A face detector, normalized: scores 37.9 dB
against 44.3. ResNet-8, asked for by name, all guesses: 21.0 dB against 25.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler.config import Config
from qcompile.compiler.data.feeder import Feeder
from qcompile.compiler.data.layout import channel_axis
from qcompile.compiler.importers.onnx import Imported
from qcompile.compiler.options import BuildOptions, Scheme
from qcompile.compiler.pipeline import Compiled
from qcompile.compiler.planning import complete, empty_plan
from qcompile.compiler.quantizing import quantize
from qcompile.core.errors import Code, QCompileError
from qcompile.core.macs import macs
from qcompile.core.notes import Note
from qcompile.core.plan import QuantPlan
from qcompile.core.schemes import STATIC_SCHEMES
from qcompile.core.signature import TensorSpec
from qcompile.core.statistics.base import Statistics
from qcompile.core.statistics.min_max import MinMax
from qcompile.core.target import Target
from qcompile.passes.plan.activations import observed_values
from qcompile.passes.plan.known_ranges import MOST_LAYERS, known_moments, known_range
from qcompile.passes.plan.moments import Moments
from qcompile.passes.plan.ranges.method import MIN_MAX
from qcompile.passes.rounding.expected_bias import expect_biases

ENOUGH: Final = 0.5
"""Share of the multiply-adds that must become integer for static scales to be worth it."""

MOST_GUESSES: Final = 8
"""Layers without normalization over which ranges are guessed when static scales were asked for;
over 27 of them a network's logits were lost."""

KNOWN: Final = "known"
"""What reports and plans name as the rule of ranges that follow from the model."""

Ends = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Decision:
    """What is built without data, under which options, and why."""

    options: BuildOptions
    compiled: Compiled | None
    """The finished plan; None when the scheme chosen needs no ranges."""
    notes: tuple[Note, ...]
    described: str
    """For the report: where the ranges come from."""


def decide(model: ir.Model, options: BuildOptions, imported: Imported, config: Config) -> Decision:
    """Choose the scheme and, for a static one, make its plan.

    Args:
        model: the canonical float graph.
        options: of the build.
        imported: the user's model.
        config: has the preprocessing and the inputs' ranges.

    Raises:
        QCompileError: NO_DATA when a static scheme was asked for by name and nothing is known.
    """
    named = options.scheme_named
    if named and options.scheme.scheme not in STATIC_SCHEMES:
        return Decision(options, None, (), "none: nothing here needs samples")
    ends, unknown = input_ends(imported, config)
    known = known_moments(model.graph, ends)

    def static(layers: int) -> Static:
        return Static(model, options.target, options.scheme, imported.float_nodes, known, layers)

    sure = integer_share(model, static(MOST_GUESSES if named else 0).plan)
    if named and sure > 0:
        return _static(static(MOST_GUESSES), options, unknown)
    if not named and sure >= ENOUGH:
        return _static(static(MOST_LAYERS), options, unknown)
    if named:
        raise QCompileError(
            Code.NO_DATA,
            f"{options.scheme.scheme} without data: nothing in the model says how far its values "
            "reach",
            hint="; ".join(filter(None, (_how_to_say(unknown), "or give samples: -d FOLDER"))),
        )
    return _without_ranges(model, options, imported, sure, unknown)


class Static:
    """A plan with ranges that follow from the model; what has none stays float."""

    def __init__(
        self,
        model: ir.Model,
        target: Target,
        scheme: Scheme,
        float_nodes: Mapping[str, str],
        known: dict[str, Moments],
        layers: int,
    ) -> None:
        self.model, self.target, self.known, self.layers = model, target, known, layers
        self.scheme = replace(scheme, ranges="minmax")
        self.left: dict[str, str] = {}
        while True:
            floats = {**float_nodes, **self.left}
            self.plan = empty_plan(model, target, self.scheme, floats)
            more = self._nodes_of_unknown()
            if not more:
                return
            self.left |= more

    def _nodes_of_unknown(self) -> dict[str, str]:
        """Integer nodes that read a value of no known range, or the one that makes it."""
        found: dict[str, str] = {}
        for value in observed_values(self.model.graph, self.plan, self.target):
            if self._range(value.name or "") is not None:
                continue
            why = f"nothing in the model says how far {value.name} reaches; samples would"
            readers = [n for n in value.consumers() if self.plan.mode(n.name) == "integer"]
            for node in readers or self._makers(value):
                found.setdefault(node.name or "", why)
        return {name: why for name, why in found.items() if name not in self.left}

    def _makers(self, value: ir.Value) -> list[ir.Node]:
        node = value.producer()
        entry = self.plan.nodes.get(node.name or "") if node is not None else None
        if node is None or entry is None:
            return []
        owner = entry.into or entry.name
        return [n for n in self.model.graph if n.name == owner]

    def _range(self, name: str) -> tuple[float, float] | None:
        return known_range(self.known.get(name), self.layers)

    def compile(self) -> Compiled:
        """Set every parameter, repair the biases for the expected input, quantize."""
        statistics: Statistics = {}
        observed = observed_values(self.model.graph, self.plan, self.target)
        for value in observed:
            seen, ends = MinMax(), self._range(value.name or "")
            assert ends is not None
            seen.update(np.array(ends), 0)
            statistics[value.name or ""] = {MIN_MAX: seen}
        saturation, notes = complete(self.model, self.plan, self.target, self.scheme, statistics)
        for name, entry in self.plan.values.items():
            if entry.rule == "minmax":
                self.plan.values[name] = replace(entry, rule=KNOWN)
        expect_biases(self.model.graph, self.plan, self.known)
        qdq = quantize(self.model, self.plan)
        return Compiled(self.model, self.plan, qdq, saturation, tuple(notes), KNOWN)

    def guessed(self) -> int:
        """How many of the ranges are guesses over weighted layers without normalization."""
        values = observed_values(self.model.graph, self.plan, self.target)
        moments = [self.known[v.name or ""] for v in values]
        return sum(m.layers > 0 and not m.bounded for m in moments)


def input_ends(imported: Imported, config: Config) -> tuple[dict[str, Ends], list[str]]:
    """The smallest and largest number of each float input, and the inputs they are unknown of.

    ``[data.ranges]`` says them; else they follow from bytes 0..255 and ``[preprocess]``, where
    that changes the numbers: plain pixels cannot be told from data that were scaled elsewhere.
    """
    feeder = Feeder(imported.signature, config.preprocess)
    found: dict[str, Ends] = {}
    unknown = []
    for spec in imported.signature.inputs:
        given = config.data.ranges.get(spec.name)
        if given is not None:
            found[spec.name] = (np.array([given[0]]), np.array([given[1]]))
        elif not spec.dtype.startswith("float"):
            continue
        elif not config.preprocess.is_plain and feeder.is_picture(spec):
            found[spec.name] = _pixels(spec, config)
        else:
            unknown.append(spec.name)
    return found, unknown


def _pixels(spec: TensorSpec, config: Config) -> Ends:
    """What bytes become; one number a channel where the channels lie along axis 1."""
    table = config.preprocess.table("float64")
    low, high = table.min(axis=1), table.max(axis=1)
    rank = len(spec.shape) if spec.shape is not None else 0
    if len(low) > 1 and (rank < 2 or channel_axis(spec, rank, config.preprocess.layout) != 1):
        return low.min(keepdims=True), high.max(keepdims=True)
    return low, high


def integer_share(model: ir.Model, plan: QuantPlan) -> float:
    """Share of the multiply-adds that a plan makes integer."""
    work = {node.name: macs(node) for node in model.graph}
    total = sum(work.values())
    done = sum(n for name, n in work.items() if plan.mode(name) in {"integer", "dynamic"})
    return done / total if total else 0.0


def _static(static: Static, options: BuildOptions, unknown: list[str]) -> Decision:
    name = options.scheme.scheme
    share = integer_share(static.model, static.plan)
    parts = [
        f"-d none: {name} with ranges that follow from the model (batch normalization, clips); "
        f"{100 * share:.0f} % of the multiply-adds are integer"
    ]
    guessed = static.guessed()
    if guessed:
        parts.append(f"{guessed} ranges are guesses from the weights")
    if static.left:
        parts.append(f"{len(static.left)} nodes stay float for want of a range")
    notes = [Note("info", "; ".join(parts)), _SAMPLES_WOULD_MEASURE]
    if unknown:
        notes.append(Note("warning", _how_to_say(unknown)))
    described = "none: the ranges follow from the model"
    return Decision(options, static.compile(), tuple(notes), described)


_SAMPLES_WOULD_MEASURE: Final = Note(
    "info",
    "some 100 calibration samples (-d FOLDER) would buy measured ranges, where these are too wide "
    "or cut off what is rare, and biases corrected on the quantized network",
)


def _without_ranges(
    model: ir.Model, options: BuildOptions, imported: Imported, sure: float, unknown: list[str]
) -> Decision:
    """Dynamic where it makes most of the work integer, else float16, else what little there is."""
    common = set.intersection(*(set(target.schemes) for target in options.targets))
    share = -1.0  # of what would become integer as the model runs
    if "w8a8-dynamic" in common:
        dynamic = _under(options, "w8a8-dynamic")
        plan = empty_plan(model, dynamic.target, dynamic.scheme, imported.float_nodes)
        if any(entry.mode == "dynamic" for entry in plan.nodes.values()):
            share = integer_share(model, plan)
    wanted = "float" if share < 0 else "w8a8-dynamic"
    halves = all(target.half_without_data for target in options.targets)
    if share < ENOUGH and "fp16" in common and halves:
        wanted = "fp16"
    why = f"for static scales the model says too little ({100 * sure:.0f} % of its multiply-adds)"
    buys = "calibration samples (-d FOLDER) would make activations integer too"
    notes = [Note("info", f"-d none: {wanted}, since {why}"), Note("info", buys)]
    if unknown:
        notes.append(Note("info", _how_to_say(unknown)))
    return Decision(_under(options, wanted), None, tuple(notes), "none: nothing here needs samples")


def _under(options: BuildOptions, scheme: str) -> BuildOptions:
    ends = options.ends if scheme == "w8a8-dynamic" else tuple("float" for _ in options.ends)
    targets = tuple(target.under(scheme) for target in options.targets)
    end = next((e for e in ends if e != "float"), "float")
    return replace(
        options, targets=targets, ends=ends, scheme=replace(options.scheme, scheme=scheme, ends=end)
    )


def _how_to_say(unknown: list[str]) -> str:
    if not unknown:
        return ""
    return (
        f"the range of the input {unknown[0]!r} is not known: say it with "
        f'[data.ranges] "{unknown[0]}" = [0, 255] in qcompile.toml, or give scale, mean and std '
        "under [preprocess]"
    )
