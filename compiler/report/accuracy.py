"""How close an artefact is to its float model: outputs, classes, figures of the user's own."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Share:
    """A counted share and the 95 % Wilson interval around it."""

    hits: int
    total: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class OutputQuality:
    """How close one output of the artefact is to the float model's, over all samples."""

    name: str
    identical: bool
    """Not one element differs."""
    sqnr_db: float | None = None
    """10 log10(sum y^2 / sum (y - y')^2); infinite when identical; None for an integer output."""
    cosine: float | None = None
    """sum y*y' / sqrt(sum y^2 * sum y'^2); None for an integer output or one that is all zero."""
    worst: float | None = None
    """Largest absolute difference of an element; None for an integer output."""
    equal: float | None = None
    """Share of equal elements; only for an integer output (class numbers, counts)."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A metric against the labels, of both models, as a share of the rows."""

    metric: str
    """``top-1`` or ``top-5``."""
    float_value: float
    artefact_value: float
    lost: int
    """Rows that only the float model got right."""
    won: int
    """Rows that only the artefact got right."""
    drop_low: float | None = None
    drop_high: float | None = None
    """The 95 % interval of ``drop_points``, by paired bootstrap over the rows."""
    chance: float | None = None
    """How likely chance alone makes lost and won so unequal (McNemar's exact test), 0 to 1."""

    @property
    def drop_points(self) -> float:
        """What the artefact lost to the float model, in points of 100; negative when it won."""
        return 100.0 * (self.float_value - self.artefact_value)


@dataclass(frozen=True, kw_only=True)
class OwnFigure:
    """A figure of the user's own metric, of both models; higher is better."""

    metric: str
    float_value: float
    artefact_value: float
    drop_low: float | None = None
    drop_high: float | None = None
    """The 95 % interval of ``drop_points``; None where there is no score for each sample."""

    @property
    def drop_points(self) -> float:
        """What the artefact lost, in hundredths of the metric's unit; negative when it won."""
        return 100.0 * (self.float_value - self.artefact_value)


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """Of a language model and its artefact: ``exp`` of the mean surprise; lower is better."""

    tokens: int
    """Tokens that were predicted."""
    float_value: float
    artefact_value: float
    rise_low: float | None = None
    rise_high: float | None = None
    """The 95 % interval of ``rise_percent``, by paired bootstrap over the samples."""

    @property
    def rise_percent(self) -> float:
        """By how much the artefact's is higher, in percent of the float model's."""
        return 100.0 * (self.artefact_value / self.float_value - 1.0)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The artefact against the float model, on data that took no part in the build."""

    data: str
    """Which samples: ``held out: 25 of 125`` or what ``--eval`` named."""
    samples: int
    outputs: tuple[OutputQuality, ...]
    metrics: tuple[Labelled, ...] = ()
    own: tuple[OwnFigure, ...] = ()
    """Figures of the user's own metric, where one was given."""
    agreement: Share | None = None
    """Rows in which both models' largest score is the same class; of a language model, positions
    at which it is the same next token. None for all others."""
    perplexity: Perplexity | None = None
    """Of a language model."""
    arithmetic: str = ""
    """Whose integer sums were used, when not this machine's own kernels."""

    @property
    def top1(self) -> Labelled | None:
        """The top-1 metric, when the data have labels."""
        return next((m for m in self.metrics if m.metric == "top-1"), None)

    @property
    def worst_sqnr_db(self) -> float | None:
        """The SQNR of the worst output that is not integer."""
        return min((o.sqnr_db for o in self.outputs if o.sqnr_db is not None), default=None)
