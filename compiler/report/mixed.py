"""Records of the report on mixed precision: which layers cost what, and which budgets hold."""

from dataclasses import dataclass


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


@dataclass(frozen=True, kw_only=True)
class BudgetSearch:
    """What a search for the cheapest plan within budgets has found."""

    metric: str
    """What the drop is measured in, and on which samples."""
    float_layers: tuple[str, ...]
    """Layers left float, in graph order, without those that had to follow."""
    drop_before: float
    """Points lost by the plan before the search."""
    drop: float
    """Points lost by the plan that was chosen."""
    size_before: int | None = None
    """Bytes of the artefact before, and as it was chosen; None when not worked out."""
    size: int | None = None
    trials: int = 0
    """Plans that were judged."""


@dataclass(frozen=True, kw_only=True)
class FloatCost:
    """What a clock said of one layer left float."""

    node: str
    ms: float
    """Median time gained or lost by the whole model, in milliseconds; positive is slower."""
    low: float
    high: float
    """95 % interval."""
