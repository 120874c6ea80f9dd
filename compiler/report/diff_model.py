"""What ``qcompile diff`` found: the record that its table and its JSON are made from."""

from dataclasses import dataclass
from typing import ClassVar

from qcompile.compiler.report.accuracy import Accuracy
from qcompile.compiler.report.model import ModelInfo, Report
from qcompile.core.notes import Note


@dataclass(frozen=True, kw_only=True)
class SideInfo:
    """One of the two: a build, another tool's model, a float model, or a plan."""

    model: ModelInfo
    format: str
    """``onnx``, ``tflite`` or ``plan``."""
    target: str = ""
    """Empty when nothing says it."""
    scheme: str = ""
    has_plan: bool = False
    """Whether its plan is known: only then are there rules, and reasons."""
    is_float: bool = False
    """Whether nothing in it is quantized."""


@dataclass(frozen=True, kw_only=True)
class CountDifference:
    """A number of things of one kind that differs: operators, bytes of weights of a type."""

    name: str
    first: int
    second: int


@dataclass(frozen=True, kw_only=True)
class NodeDifference:
    """A node of the user's model that becomes one thing here and another there."""

    node: str
    op: str
    first: str
    """``integer``, ``dynamic``, ``weights``, ``float`` or ``absorbed``; empty where it is not."""
    second: str
    first_reason: str = ""
    second_reason: str = ""


@dataclass(frozen=True, kw_only=True)
class GridInfo:
    """How one side quantizes a value."""

    dtype: str
    scales: int
    """How many; more than 1 by channel."""
    scale: float
    """The largest."""
    zero_point: int
    """Of the first channel."""
    rule: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class GridDifference:
    """A value that the two quantize differently, or that only one of them quantizes."""

    value: str
    role: str
    """``activation`` or ``weight``."""
    first: GridInfo | None
    second: GridInfo | None
    ratio: float | None = None
    """Median of the second's scales over the first's; None where one has none."""


@dataclass(frozen=True, kw_only=True)
class LayerDifference:
    """How close a value is in the two, over all traced samples; in the first's graph order."""

    value: str
    node: str
    """That makes it, in the user's model as far as that is known."""
    op: str
    identical: bool
    sqnr_db: float | None
    """Of the second against the first; infinite when identical."""
    cosine: float | None
    first_sqnr_db: float | None = None
    """Of the first against the float reference, if there is one."""
    second_sqnr_db: float | None = None
    fall_db: float | None = None
    """With a reference: SQNR of the first minus that of the second. Without: what SQNR fell by
    from the worst of the values that it is computed from."""
    parts_here: bool = False
    """The first value of the graph whose fall is larger than asked for."""


@dataclass(frozen=True, kw_only=True)
class DiffReport:
    """Everything ``qcompile diff`` has to say."""

    kind: ClassVar[str] = "diff"

    qcompile_version: str
    first: SideInfo
    second: SideInfo
    reference: ModelInfo | None = None
    operators: tuple[CountDifference, ...] = ()
    weight_bytes: tuple[CountDifference, ...] = ()
    nodes: tuple[NodeDifference, ...] = ()
    same_nodes: int = 0
    grids: tuple[GridDifference, ...] = ()
    same_grids: int = 0
    retyped: int = 0
    """Of those, values with the same grid in another type (U8 and S8, zero point 128 apart)."""
    constants: tuple[str, ...] = ()
    """Constants, as weights, that both have by this name, with other numbers."""
    corrections: tuple[str, ...] = ()
    """Biases whose corrections differ."""
    rounded: tuple[str, ...] = ()
    """Weights whose integers were chosen differently."""
    accuracy: Accuracy | None = None
    """The second against the first."""
    first_accuracy: Accuracy | None = None
    """The first against the reference."""
    second_accuracy: Accuracy | None = None
    layers: tuple[LayerDifference, ...] = ()
    traced: int = 0
    """Samples that the layers were compared on."""
    largest_fall_db: float = 0.0
    """The fall from which on the two are said to part."""
    notes: tuple[Note, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing that was looked at differs."""
        if self.first.model.sha256 and self.first.model.sha256 == self.second.model.sha256:
            return True
        counted = (*self.operators, *self.nodes, *self.grids, *self.constants)
        counted += (*self.corrections, *self.rounded)
        ran = self.accuracy is None or all(o.identical for o in self.accuracy.outputs)
        return not counted and ran and all(layer.identical for layer in self.layers)

    def _repr_html_(self) -> str:
        from qcompile.compiler.report.html_view import html_of

        return html_of(self)


AnyReport = Report | DiffReport
