"""Records of the report on mixed precision: which layers cost what, and which budgets hold."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A limit that a check or a build was told to hold an artefact to."""

    name: str
    """The command-line option without dashes in front: ``min-sqnr``."""
    limit: float
    value: float
    passed: bool
    remark: str = ""
    how: str = "measured"
    """How the value came to be known."""


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """What one layer's quantization costs."""

    node: str
    op: str
    gained_db: float
    """Output SQNR won when this layer alone is left float, in dB."""
    alone_db: float | None = None
    """Output SQNR when this layer alone is integer; None when that was not tried."""
    macs_share: float = 0.0
    """Share of the multiply-adds of all layers in the list."""
    weights_share: float = 0.0
    """Share of their weights' elements."""
    bytes: int | None = None
    """Bytes by which the artefact grows when it is left float; None when not worked out."""
    points: float | None = None
    """Points of the metric won when it is left float; None when that was not tried."""
    best: bool = False
    """No other layer gains more dB for fewer multiply-adds."""
    pattern: str = ""
    """What it is a part of, where that is known to lose in 8 bits; else empty."""


@dataclass(frozen=True, kw_only=True)
class BudgetSearch:
    """What a search for the cheapest plan within budgets has found."""

    metric: str
    """What the drop is measured in, and on which samples; empty when it was not measured."""
    float_layers: tuple[str, ...]
    """Layers left float, in graph order, without those that had to follow."""
    drop_before: float | None
    """Points lost by the plan before the search."""
    drop: float | None
    """Points lost by the plan that was chosen, as far as that is to be expected."""
    size_before: int
    """Bytes of the artefact before."""
    size: int
    """Bytes of the artefact as it was chosen."""
    trials: int
    """Plans that were judged."""
    wide_layers: tuple[str, ...] = ()
    """Layers that take int16 activations instead, in graph order."""
    drop_low: float | None = None
    """95 % interval of ``drop``; None where there is none."""
    drop_high: float | None = None
    in_time: bool = True
    """Whether the search ended before its time was over."""


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """Which layers cost what, and what was done about it."""

    layers: tuple[LayerSensitivity, ...] = ()
    """By falling gain."""
    search: BudgetSearch | None = None
    gates: tuple[Gate, ...] = ()
    """Budgets, as far as no clock decides them."""


@dataclass(frozen=True, kw_only=True)
class FloatCost:
    """What a clock said of one layer left float."""

    node: str
    ms: float
    """Median time gained or lost by the whole model, in milliseconds; positive is slower."""
    low: float
    high: float
    """95 % interval."""


@dataclass(frozen=True, kw_only=True)
class MixedTimes:
    """What a clock said of layers left float, and of the budget of time."""

    costs: tuple[FloatCost, ...] = ()
    gates: tuple[Gate, ...] = ()
