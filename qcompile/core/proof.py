"""What a back end proves of a finished artefact: which nodes really run as integers."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Planned:
    """A node that the plan meant to be integer, and where to look for it."""

    name: str
    op: str
    results: tuple[str, ...]
    """Values of the artefact that hold its result, the most telling first. For a quantized result
    that is the integer value behind its QuantizeLinear: when the node was fused, its kernel makes
    that value; when not, the quantizer is left over."""
    own: str = ""
    """What the node itself makes, where it absorbed others: it may be integer without them."""
    weights_only: bool = False
    """Whether only its weight was meant to be integers, read by a kernel of float activations."""


@dataclass(frozen=True)
class NodeProof:
    """Whether one node that the plan meant to be integer runs as integers."""

    name: str
    op: str
    integer: bool
    kernel: str
    """The op of the runtime's own graph that does its work; empty when it was optimized away."""
    reason: str = ""
    """Why it is not integer."""
    absorbed: str = ""
    """Why what it absorbed is not integer as well; empty when it is."""


@dataclass(frozen=True)
class Proof:
    """What a runtime made of an artefact."""

    nodes: tuple[NodeProof, ...]
    kernels: Mapping[str, int]
    """Op of the runtime's graph -> how many nodes of it there are."""
    runtime: str
    """Name and version of the runtime that gave the proof."""

    @property
    def failures(self) -> tuple[NodeProof, ...]:
        """The nodes that were meant to be integer and are not."""
        return tuple(node for node in self.nodes if not node.integer)
