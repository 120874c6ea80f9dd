"""What a build, a check or an inspection found: the one record that every view is made from.

Everything outside ``Measured`` depends only on the model, the data and the options, so two equal
builds have equal reports; what a clock said stands apart, in ``Measured``.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from qcompile.compiler.report.accuracy import Accuracy
from qcompile.compiler.report.decoding import CacheBytes, Decoding
from qcompile.compiler.report.devices import Across, DeviceFacts, DeviceTimes
from qcompile.compiler.report.latency import Instructions, Latency
from qcompile.compiler.report.mixed import Gate, Mixed, MixedTimes
from qcompile.compiler.report.never_slower import RegionCost
from qcompile.compiler.report.stored import StoredWeights
from qcompile.compiler.report.tried import TriedStep
from qcompile.core.accelerator import Offload
from qcompile.core.notes import Note
from qcompile.core.signature import TensorSpec

SCHEMA_VERSION = 1
"""Raised when a key of the JSON report changes its meaning or goes away; new keys do not."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model file, float or compiled."""

    name: str
    """File name without folders; empty for an artefact that was not written."""
    bytes: int
    """Size with external data."""
    nodes: int
    sha256: str
    """Of the file itself, in hexadecimal; empty when there is no file."""
    opset: int = 0
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OpCoverage:
    """How many nodes of one kind run as integers, and the multiply-adds that are in them."""

    op: str
    integer: int
    float: int
    macs_integer: int = 0
    macs_float: int = 0


@dataclass(frozen=True, kw_only=True)
class FloatNode:
    """A node that stayed float."""

    name: str
    op: str
    reason: str
    """One sentence."""
    sources: tuple[str, ...] = ()
    """Nodes of the user's model that it stands for; empty when it is one of them itself."""
    pattern: str = ""
    """What it is a part of, where that is known to lose in 8 bits; else empty."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Which nodes the runtime executes as integers, read from what it really loaded."""

    ops: tuple[OpCoverage, ...]
    float_nodes: tuple[FloatNode, ...] = ()

    @property
    def integer(self) -> int:
        """Number of integer nodes."""
        return sum(op.integer for op in self.ops)

    @property
    def total(self) -> int:
        """Number of nodes that compute something."""
        return sum(op.integer + op.float for op in self.ops)

    @property
    def macs_share(self) -> float:
        """Share of the multiply-adds that is done in integers; 1 when there are none."""
        macs = sum(op.macs_integer + op.macs_float for op in self.ops)
        return sum(op.macs_integer for op in self.ops) / macs if macs else 1.0


@dataclass(frozen=True, kw_only=True)
class OnDevice:
    """An artefact on one device."""

    device: DeviceFacts
    accuracy: Accuracy | None = None
    no_accuracy: str = ""
    """Why accuracy was not measured there."""


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """What was done so that the target's multiply-add cannot saturate."""

    layers_proven: int = 0
    """Layers whose weights cannot overflow as they are."""
    channels_shrunk: int = 0
    layers_shrunk: int = 0
    layers_unsigned: int = 0
    """Layers switched to unsigned weights."""


@dataclass(frozen=True, kw_only=True)
class LayerQuality:
    """How close one layer's output on the quantized graph is to the float graph's."""

    node: str
    op: str
    sqnr_db: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """Wall time of one stage of the build."""

    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PassTime:
    """Wall time of one graph pass, and what it did."""

    name: str
    seconds: float
    changed: bool
    nodes: int
    """Nodes of the graph afterwards."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a clock said. It is shown, never written among the outputs of a build."""

    latency: Latency | None = None
    no_latency: str = ""
    """Why latency was not measured."""
    decoding: Decoding | None = None
    """Of a decoder, whose ``latency`` is that of one token behind others."""
    instructions: Instructions | None = None
    """On a device that is emulated, where times mean nothing."""
    off_share: float | None = None
    """Share of the artefact's time that is spent off the target, its borders included, by the
    runtime's own profile; None where nothing is off it or the runtime has none."""
    devices: tuple[DeviceTimes, ...] = ()
    """Of each device that was named; ``latency`` and ``instructions`` are those of the first."""
    steps: tuple[Step, ...] = ()
    tried: tuple[Step, ...] = ()
    """Of the steps of the search, in the order of ``BuildReport.tried``."""
    passes: tuple[PassTime, ...] = ()
    """Filled when the build was asked to time its passes."""
    peak_memory_mb: float | None = None
    mixed: MixedTimes | None = None
    """Of layers left float; None when none was timed."""


@dataclass(frozen=True, kw_only=True)
class OwnScales:
    """What an artefact has of the scales that its model came with, quantized already."""

    activations: int
    weights: int
    biases: int
    """Whose parameters, or integers, are the model's to the last bit."""
    added: tuple[tuple[str, str], ...] = ()
    """Value and the rule of parameters that the model does not give."""
    changed: tuple[tuple[str, str], ...] = ()
    """Value and why the parameters that the model gives it are others now."""
    idle: tuple[str, ...] = ()
    """Values whose parameters nothing needs: no kernel stores them."""


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """Everything ``qcompile build`` has to say."""

    kind: ClassVar[str] = "build"

    qcompile_version: str
    target: str
    target_title: str
    scheme: str
    effort: str
    ranges: str
    """Empty when no range was looked for."""
    calibration: str
    """Which samples the ranges come from, or why none were needed."""
    model: ModelInfo
    artefact: ModelInfo
    coverage: Coverage
    accuracy: Accuracy | None = None
    no_accuracy: str = ""
    """Why accuracy was not measured."""
    saturation: Saturation | None = None
    tried: tuple[TriedStep, ...] = ()
    """The steps of the search in their order; each begins where the kept ones before it ended."""
    worst_layers: tuple[LayerQuality, ...] = ()
    """At most five, the worst first."""
    notes: tuple[Note, ...] = ()
    unfit: tuple[str, ...] = ()
    """Reasons for which the artefact must not ship, such as ranges from random data."""
    simulated: str = ""
    """The scheme that the target has no kernels for and the artefact computes in floats, if so."""
    options: tuple[tuple[str, str], ...] = ()
    """Further options that shaped the artefact, by name."""
    stored: StoredWeights | None = None
    """The weights that are stored in integers where activations stay float."""
    own_scales: OwnScales | None = None
    """For a model that is quantized already: what was kept of its scales, and added."""
    mixed: Mixed | None = None
    """Which layers cost what, and the budgets; None when neither was asked for."""
    regions: tuple[RegionCost, ...] = ()
    """What layers take as floats and as integers; empty when that was not asked for."""
    devices: tuple[OnDevice, ...] = ()
    """The devices that it was tried on."""
    offload: Offload | None = None
    """What leaves the target, and what its tool estimates."""
    cache: CacheBytes | None = None
    """Of a decoder."""
    gates: tuple[Gate, ...] = ()
    """Limits on what leaves the target, and on estimates."""
    measured: Measured = field(default_factory=Measured)

    @property
    def passed(self) -> bool:
        """Whether every gate holds and every budget is kept, those of time included."""
        clocked = self.measured.mixed.gates if self.measured.mixed is not None else ()
        budgets = self.mixed.gates if self.mixed else ()
        return all(gate.passed for gate in (*self.gates, *budgets, *clocked))

    @property
    def fit_to_ship(self) -> bool:
        """False for an artefact that only serves to try something out."""
        return not self.unfit

    @property
    def size_ratio(self) -> float:
        """Bytes of the artefact over bytes of the float model."""
        return self.artefact.bytes / self.model.bytes if self.model.bytes else 0.0

    def _repr_html_(self) -> str:
        from qcompile.compiler.report.html_view import html_of

        return html_of(self)


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Everything ``qcompile check`` has to say."""

    kind: ClassVar[str] = "check"

    qcompile_version: str
    artefact: ModelInfo
    reference: ModelInfo
    accuracy: Accuracy | None = None
    coverage: Coverage | None = None
    devices: tuple[OnDevice, ...] = ()
    """The devices that were named; ``accuracy`` is that of the first."""
    across: Across | None = None
    """The same inputs on each of several devices."""
    offload: Offload | None = None
    """What leaves the target that the artefact says it was made for."""
    cache: CacheBytes | None = None
    """Of a decoder."""
    gates: tuple[Gate, ...] = ()
    notes: tuple[Note, ...] = ()
    simulated: str = ""
    """The scheme that the target has no kernels for and the artefact computes in floats, if so."""
    measured: Measured = field(default_factory=Measured)

    @property
    def passed(self) -> bool:
        """Whether every gate holds."""
        return all(gate.passed for gate in self.gates)

    @property
    def size_ratio(self) -> float:
        """Bytes of the artefact over bytes of the reference."""
        return self.artefact.bytes / self.reference.bytes if self.reference.bytes else 0.0

    def _repr_html_(self) -> str:
        from qcompile.compiler.report.html_view import html_of

        return html_of(self)


@dataclass(frozen=True, kw_only=True)
class InspectReport:
    """Everything ``qcompile inspect`` has to say."""

    kind: ClassVar[str] = "inspect"

    model: ModelInfo
    ir_version: int
    producer: str
    parameters: int
    """Number of constants' elements."""
    weight_types: tuple[tuple[str, int], ...] = ()
    """Element type -> bytes of constants of that type, largest first."""
    op_counts: tuple[tuple[str, int], ...] = ()
    """Op -> number of nodes, most frequent first."""
    target: str = ""
    """The target that coverage was worked out for, if any."""
    coverage: Coverage | None = None
    notes: tuple[Note, ...] = ()
    simulated: str = ""
    """The scheme that the target has no kernels for and the artefact computes in floats, if so."""

    def _repr_html_(self) -> str:
        from qcompile.compiler.report.html_view import html_of

        return html_of(self)


Report = BuildReport | CheckReport | InspectReport
