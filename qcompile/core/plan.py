"""QuantPlan: everything that was decided about a model, by value and node name.

A plan is a side table of the canonical float graph. It is made by ``passes.plan``, read by
``passes.quantize``, saved by ``core.plan_file``; nothing else carries quantization decisions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

Role = Literal["activation", "weight", "bias", "cache"]
"""``cache``: keys or values that a decoder hands back to itself; the entry bears the name of the
output, its scales (heads * size,) are of the channels of each head."""
Granularity = Literal["tensor", "channel", "group"]
"""``group``: of a matrix, see ``ValuePlan.group``."""
WIDE: Final = "int16"
"""Type of a wide node's activations."""
TOKEN: Final = " token"
"""What the type of a dynamic node's activations ends in where each token has a scale."""
Mode = Literal["integer", "dynamic", "table", "weights", "float", "absorbed"]
"""``dynamic``: integer, its activations quantized as the model runs. ``table``: it reads rows of a
table that is stored in integers, and hands on floats. ``weights``: it computes in floats, its
weight is stored in integers. ``absorbed``: see ``NodePlan.into``."""


@dataclass(frozen=True, eq=False)
class QuantParams:
    """Scale and zero point of a value; vectors along the entry's axis when per-channel."""

    scale: np.ndarray
    """float32, shape () or (channels,), positive; of a grouped matrix (groups, columns), where that
    of a symmetric group may be negative (``core.numerics.grouped``)."""
    zero_point: np.ndarray
    """int64, of the same shape."""
    levels: np.ndarray | None = None
    """Of a weight that is stored as codes of a table: what a code c stands for, ``scale *
    levels[c]``. float32 (entries,), or (channels, entries) along the entry's axis; ascending."""

    def same_as(self, other: "QuantParams") -> bool:
        """Equal to the last bit."""
        mine, others = self.levels, other.levels
        same = mine is others or (
            mine is not None and others is not None and np.array_equal(mine, others)
        )
        return (
            same
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


@dataclass(frozen=True)
class Shared:
    """The value must carry the parameters of ``leader`` (concat, pool, reshape)."""

    leader: str


@dataclass(frozen=True)
class Derived:
    """A bias: scale = scale(activation) * scale(weight), zero point 0."""

    activation: str
    weight: str


@dataclass(frozen=True)
class Fixed:
    """The parameters are set by the kernel that makes the value (softmax, sigmoid)."""

    op: str


@dataclass(frozen=True)
class Widened:
    """What int16 nodes read of an 8-bit value: an exact requantize, no number is lost.

    With ``s`` and ``z`` those of ``source``: scale ``s / 128`` (exact in float32, a power of two
    apart) and zero point 0. ``s * (q - z) = (s / 128) * (128 * (q - z))``, and ``|128 * (q - z)|``
    is at most ``128 * 255 = 32640``, which int16 holds.
    """

    source: str


Relation = Shared | Derived | Fixed | Widened


@dataclass(frozen=True, eq=False)
class ValuePlan:
    """How one value of the canonical graph is quantized, and why."""

    name: str
    role: Role
    dtype: str
    granularity: Granularity = "tensor"
    axis: int | None = None
    symmetric: bool = False
    relation: Relation | None = None
    params: QuantParams | None = None
    rule: str = ""
    """The rule that chose the parameters, as ``minmax`` or ``absmax``."""
    reason: str = ""
    """Why that rule, type or granularity: one sentence for the report."""
    group: int = 0
    """With a granularity of ``group``, of a matrix: how many elements along ``axis`` share a scale
    (the last group may have fewer). ``axis`` is that of the K inputs of a column, 0 or 1; scales
    are of shape (ceil(K / group), N) either way."""
    narrow: bool = False
    """Of a grouped weight: its codes begin at 1, as many below the zero point in the middle as
    above it, and its scales are positive. In 2 bits that is ``{-s, 0, s}``: ternary."""

    def with_params(self, params: QuantParams, *, rule: str | None = None) -> "ValuePlan":
        """The same entry with its parameters set."""
        return replace(self, params=params, rule=self.rule if rule is None else rule)


CostUnit = Literal["ms", "instructions"]


@dataclass(frozen=True)
class NodeCost:
    """What the region of a node takes as floats and as integers: why it is one or the other.

    The difference is what counts: it comes from whole artefacts that were timed with the region as
    either, quantizers at its borders included. The share of the whole is an estimate.
    """

    floats: float
    integers: float
    error: float
    """Half of the 95 % interval of their difference."""
    measured: bool
    """False where nothing was timed, and a table of costs says so."""
    like: str = ""
    """The node whose region was timed, where an equal one was."""
    unit: CostUnit = "ms"
    """``instructions`` are those of an emulated CPU, and say nothing in milliseconds."""


@dataclass(frozen=True)
class NodePlan:
    """What becomes of one node of the canonical graph, and why."""

    name: str
    op: str
    mode: Mode
    reason: str = ""
    """Why it is not integer, or a remark on how it is."""
    into: str | None = None
    """For an absorbed node: the integer node whose output quantizer does its work."""
    activations: str = ""
    """Type of the activations where it is not the target's own: ``int16`` (a wide node); of a
    dynamic node with a scale a token ``uint8 token``, or another type."""
    chosen: bool = False
    """Whether somebody chose so (a pattern, a budget); what else stands here follows from rules."""
    cost: NodeCost | None = None
    """Its figures, where the plan is to be never slower than float."""


@dataclass
class QuantPlan:
    """The decisions for one model and target.

    ``values`` and ``nodes`` are keyed by the unique names of the canonical graph, in graph order.
    """

    fingerprint: str
    """Of the canonical float graph (``core.graph.fingerprint``)."""
    target: str
    scheme: str
    values: dict[str, ValuePlan] = field(default_factory=dict)
    nodes: dict[str, NodePlan] = field(default_factory=dict)
    corrections: dict[str, np.ndarray] = field(default_factory=dict)
    """Bias value name -> float32 (channels,), added to the float bias before it is rounded."""
    rounded: dict[str, np.ndarray] = field(default_factory=dict)
    """Weight value name -> its integers, where they are not the nearest ones."""
    transforms: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """What was done to the canonical graph before it was planned, in order: name of a transform ->
    value name -> float32 factors (see ``passes.transform.table``). The entries of the plan are
    those of the transformed graph, the fingerprint is that of the graph before."""
    ends: str = "float"
    """Type of the model's float inputs and outputs: ``float``, ``uint8``, ``int8`` or ``int16``."""
    weights: str = "int"
    """What weights are stored as: one of ``core.schemes.WEIGHT_FORMS``."""
    attention: str = ""
    """The operator of the runtime that attentions of a decoder are written as, caches included
    (``GroupQueryAttention``); empty for plain operators."""
    from_noise: bool = False
    """Ranges or rounding rest on made-up samples: what is built from the plan is unfit to ship."""

    def quantized(self, name: str | None) -> ValuePlan | None:
        """The entry of a value that has parameters, else None."""
        entry = self.values.get(name) if name else None
        return entry if entry is not None and entry.params is not None else None

    def is_wide(self, node_name: str | None) -> bool:
        """Whether a node runs on int16 activations beside nodes of 8 bits."""
        entry = self.nodes.get(node_name) if node_name else None
        return entry is not None and entry.activations == WIDE

    def seen_by(self, node_name: str | None, value_name: str | None) -> str:
        """Name of the entry under which a node reads a value: its own, or the one of int16."""
        name = value_name or ""
        wide = wide_name(name)
        return wide if wide in self.values and self.is_wide(node_name) else name

    def is_integer(self, node_name: str | None) -> bool:
        """Whether a node has static parameters, by itself or absorbed."""
        return self.mode(node_name) in {"integer", "absorbed"}

    def mode(self, node_name: str | None) -> Mode:
        """What becomes of a node; a node the plan does not know stays float."""
        entry = self.nodes.get(node_name) if node_name else None
        return "float" if entry is None else entry.mode


def wide_name(value_name: str) -> str:
    """Name of the entry for what int16 nodes read of a value that others read in 8 bits."""
    return f"{value_name} as int16"


@dataclass(frozen=True)
class Chosen:
    """What was chosen for single nodes, as planning takes it: node name -> reason."""

    float_nodes: Mapping[str, str] = field(default_factory=dict)
    wide_nodes: Mapping[str, str] = field(default_factory=dict)
    """Nodes with int16 activations."""
    dynamic_nodes: Mapping[str, str] = field(default_factory=dict)
    """Nodes that quantize their activations as they run, in a scheme that is static elsewhere."""


def chosen_nodes(plan: QuantPlan) -> Chosen:
    """What was chosen for single nodes of a plan.

    What an edit made float of a wide or dynamic node counts with those still, as its values are
    planned so.
    """
    chosen = [node for node in plan.nodes.values() if node.chosen]
    return Chosen(
        {n.name: n.reason for n in chosen if n.mode == "float" and n.activations != WIDE},
        {n.name: n.reason for n in chosen if n.activations == WIDE},
        {n.name: n.reason for n in chosen if n.mode == "dynamic"},
    )


def is_by_token(plan: QuantPlan) -> bool:
    """Whether dynamic nodes of a plan have a scale a token."""
    return any(node.activations.endswith(TOKEN) for node in plan.nodes.values())
