"""Records of the report on devices: what they are, what ran there, and where their results part."""

from dataclasses import dataclass
from typing import Literal

from qcompile.compiler.report.latency import Instructions, Latency

Verdict = Literal["equal", "allowed", "follows", "parts"]
"""``allowed``: no further apart than the facts allow for the operator; ``follows``: its inputs
differ already; ``parts``: further apart than that, on inputs that are equal."""


@dataclass(frozen=True, kw_only=True)
class DeviceFacts:
    """What a device says of itself."""

    spec: str
    machine: str
    system: str
    cpu: str
    cores: int
    features: tuple[str, ...]
    runtimes: tuple[tuple[str, str], ...]
    """Runtime and version."""
    governor: str = ""
    emulated: bool = False


@dataclass(frozen=True, kw_only=True)
class DeviceTimes:
    """What a clock or a counter said on one device."""

    spec: str
    latency: Latency | None = None
    no_latency: str = ""
    instructions: Instructions | None = None
    no_instructions: str = ""
    """Why they were not counted where times mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far a value of the artefact lies from what it should be, over all samples."""

    value: str
    node: str
    op: str
    verdict: Verdict
    largest: float
    """Largest difference: in steps of its scale, for floats as a share of its largest number."""
    share: float
    """Share of the elements that differ."""
    allowed: float
    """What the facts allow for the operator, in the same unit."""
    own: float
    """Largest difference over the samples in which everything it is made from is equal."""
    steps: bool = True
    """Whether it is counted in steps (LSB); False for floats."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The first operator that parts, found by running ever shorter artefacts on a device."""

    value: str
    node: str
    op: str
    largest: float
    steps: bool
    runs: int
    """Artefacts that were cut and run."""
    confirmed: bool
    """Whether, run once more on its own, its inputs were equal and its result was not."""


@dataclass(frozen=True, kw_only=True)
class AcrossDevice:
    """One device against the reference."""

    spec: str
    outputs: tuple[Gap, ...]
    layers: tuple[Gap, ...] = ()
    """Inner values in the order of the graph; empty when they were not looked at."""
    no_layers: str = ""
    """Why, or what to know of them."""
    found: Found | None = None
    """What ``--bisect`` found."""

    @property
    def first(self) -> Gap | None:
        """The first value that is not equal though all that it is made from is."""
        return next((gap for gap in self.layers if gap.verdict in {"allowed", "parts"}), None)

    @property
    def verdict(self) -> Verdict:
        """``parts`` as soon as one value does, ``allowed`` when all that differs may.

        Where the inner values were not looked at, outputs that differ at all part.
        """
        if all(gap.verdict == "equal" for gap in (*self.outputs, *self.layers)):
            return "equal"
        parts = not self.layers or any(gap.verdict == "parts" for gap in self.layers)
        return "parts" if parts else "allowed"


@dataclass(frozen=True, kw_only=True)
class Across:
    """The same inputs on several devices, held against a reference."""

    reference: str
    """Whose integers they are held against."""
    rule: str
    """By whose arithmetic those are computed."""
    samples: int
    devices: tuple[AcrossDevice, ...]
