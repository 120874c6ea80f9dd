"""The weights that an artefact stores in integers, in figures and in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcompile.compiler.report.page import Table, count, listed, size

if TYPE_CHECKING:
    from qcompile.compiler.report.model import FloatNode

NO_WEIGHT = "reads no weight"
"""How the reason of a node ends that has none; many do, and one line says it of all."""


@dataclass(frozen=True, kw_only=True)
class StoredLayer:
    """One matrix, and the node that reads it."""

    node: str
    op: str
    weight: str
    elements: int
    bits: int
    """Of a code."""
    group: int
    """Elements that share a scale; as many as a column has where it has one."""
    symmetric: bool
    bits_per_weight: float
    """With its container, scales and zero points; 0 for a matrix whose bytes are another one's."""
    rule: str
    """What chose its codes."""
    reason: str = ""
    tied: str = ""
    """The matrix whose bytes it shares."""


@dataclass(frozen=True, kw_only=True)
class StoredWeights:
    """All of them."""

    layers: tuple[StoredLayer, ...]
    float_elements: int
    """Numbers of constants that stay float."""

    @property
    def elements(self) -> int:
        """Numbers that are stored in integers; those that are tied count once."""
        return sum(layer.elements for layer in self.layers if not layer.tied)

    @property
    def bytes(self) -> float:
        """What they take."""
        return sum(layer.bits_per_weight * layer.elements for layer in self.layers) / 8

    @property
    def bits_per_weight(self) -> float:
        """Of those that are stored in integers, on average."""
        return 8 * self.bytes / self.elements if self.elements else 0.0


def stored_facts(stored: "StoredWeights | None") -> list[tuple[str, str]]:
    """How many bits a weight takes."""
    if stored is None or not stored.layers:
        return []
    text = (
        f"{stored.bits_per_weight:.2f} bits each, scales included: {stored.elements:,} numbers of "
        f"{count(len(stored.layers), 'layer')} in {size(round(stored.bytes))}"
    )
    if stored.float_elements:
        text += f"; {stored.float_elements:,} stay float"
    return [("weights", text)]


def stored_tables(stored: "StoredWeights | None") -> list[Table]:
    """A row for all layers that are stored alike."""
    if stored is None or not stored.layers:
        return []
    alike: dict[tuple[str, ...], list[StoredLayer]] = {}
    for layer in stored.layers:
        zeros = "middle" if layer.symmetric else "free"
        how = f"as {layer.tied}" if layer.tied else layer.rule
        key = (layer.op, str(layer.bits), str(layer.group), zeros, how)
        alike.setdefault(key, []).append(layer)
    rows = tuple(
        (*key, _bits(layers), str(len(layers)), listed([one.node for one in layers], limit=2))
        for key, layers in alike.items()
    )
    header = ("op", "bits", "group", "zeros", "codes", "size", "layers", "which")
    return [Table("Weights in integers", header, rows, right=(1, 2, 5, 6))]


def _bits(layers: Sequence[StoredLayer]) -> str:
    elements = sum(layer.elements for layer in layers)
    bits = sum(layer.bits_per_weight * layer.elements for layer in layers)
    return f"{bits / elements:.2f}" if bits else "-"


def without_weights(nodes: "Sequence[FloatNode]") -> list["FloatNode"]:
    """The float nodes that read no weight."""
    return [node for node in nodes if node.reason.endswith(NO_WEIGHT)]
