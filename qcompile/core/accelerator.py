"""What runs part of an artefact away from the processor, and what is told of the rest.

A target file with a table ``[accelerator]`` names the tool that compiles its artefacts for an NPU,
or that alone knows what a runtime needs. The tool's own words say what it leaves, and why.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Tool = Literal["vela", "qnn", "tflm"]
Kernels = Literal["default", "builtin", "reference"]
"""Which kernels of a runtime run an artefact; see ``targets.devices.device.Kernels``."""


@dataclass(frozen=True)
class Accelerator:
    """The table ``[accelerator]`` of a target file."""

    tool: Tool
    options: Mapping[str, str] = field(default_factory=dict)
    """What the tool is told, in its own words."""
    kernels: Kernels = "default"
    """Which kernels of the runtime stand in for it when accuracy is judged here."""
    replaces: bool = False
    """Whether what ships is another file than the runtime's own, which is then kept beside it."""
    judged: str = ""
    """The words for that in a report; empty for those of the back end."""


@dataclass(frozen=True)
class OffNode:
    """A node that leaves the target's fast path."""

    name: str
    """Of its first result."""
    op: str
    reason: str
    """Of the tool itself where it gives one."""


@dataclass(frozen=True, kw_only=True)
class Offload:
    """How much of an artefact runs where the target wants it, and what leaves it."""

    to: str
    """What it should run on: ``Ethos-U55-128``, ``XNNPACK``, ``integer kernels``."""
    nodes: int
    """Nodes of the artefact, as ``unit`` counts them."""
    on: int
    """How many of them run on it."""
    partitions: int
    """Connected pieces on it: each change to and fro costs a hand-over."""
    islands: int
    """Connected pieces off it."""
    off: tuple[OffNode, ...] = ()
    off_macs_share: float | None = None
    """Share of the model's multiply-adds that is off it; None where that is not known."""
    estimates: Mapping[str, float] = field(default_factory=dict)
    """What the tool works out, keys with their unit: ``cycles``, ``inferences_per_second``,
    ``sram_bytes``, ``flash_bytes``, ``dram_bytes``, ``arena_bytes``, ``macs``."""
    source: str = ""
    """Whose words these are: ``Vela 5.2.0``, ``LiteRT 2.3.0``."""
    estimated: str = ""
    """What to know of ``estimates``: under which assumptions, and that nothing was measured."""
