"""A recipe: every free choice about a plan. What follows from it and the data is worked out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from qcompile.core.notes import Note
from qcompile.core.plan import Chosen, QuantPlan
from qcompile.passes.plan.safe_weights import SaturationCount
from qcompile.passes.rounding.graph_order import Rounder


@dataclass(frozen=True)
class Recipe:
    """The choices that a search may change."""

    ranges: str = "minmax"
    """Range method of activations (``passes.plan.ranges.table``)."""
    rounder: Rounder = "nearest"
    transforms: tuple[str, ...] = ()
    """Names in ``passes.transform.table``, in order."""
    chosen: Chosen = field(default_factory=Chosen)
    """Nodes that are not as the rest of the plan."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """Activation -> what its range is multiplied by after the method has chosen it."""


@dataclass(frozen=True)
class Candidate:
    """A finished plan and how well it does."""

    recipe: Recipe
    model: ir.Model
    """The graph the plan is laid on: the canonical one, or what the transforms made of it."""
    plan: QuantPlan
    saturation: SaturationCount
    notes: tuple[Note, ...]
    score: float = 0.0
    """Mean SQNR of the outputs on held-out samples, in dB."""
    agreement: float | None = None
    """Share of the same samples in which a classifier chooses as float does."""
    seconds: float = 0.0
    """Wall time it took to make and to score."""
    is_borrowed: bool = False
    """Whether its corrections are those of a candidate that differs only in its ranges, or left
    out for a trial."""
    correction: "Trial | None" = None
    """What bias correction did to it; None where nothing was corrected."""

    @property
    def is_bare(self) -> bool:
        """Whether its biases are yet to be corrected."""
        return self.is_borrowed and not self.plan.corrections


@dataclass(frozen=True)
class Trial:
    """One step of a search, for the report."""

    step: str
    before: float
    """Score in dB without it."""
    after: float
    """Score with it."""
    kept: bool
    agreement_before: float | None = None
    """Agreement of a classifier with float, on the samples that are scored."""
    agreement_after: float | None = None
    seconds: float = 0.0
    """Wall time that the trial took."""
