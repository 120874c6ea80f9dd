"""What is known of a decoder once it has been recognized: records that point into its graph.

They hold for the graph as it was looked at; whoever changes that looks again.
"""

from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

Layout = Literal["bhsd", "bshd"]
"""Order of axes of a value split into heads: batch, heads, sequence, head size; or heads third."""


@dataclass(frozen=True, eq=False)
class Linear:
    """A layer ``x @ W + b`` with a constant W."""

    node: ir.Node
    """The MatMul or Gemm."""
    weight: ir.Value
    """Its second operand; stored K x N unless ``transposed``."""
    bias: ir.Value | None
    input: ir.Value
    output: ir.Value
    """What it gives, its bias added."""
    transposed: bool = False
    """Whether the weight is stored N x K (a Gemm with ``transB``)."""


@dataclass(frozen=True, eq=False)
class Norm:
    """A normalization over the last axis: ``rms`` or ``layer`` (with the mean taken off)."""

    kind: Literal["rms", "layer"]
    input: ir.Value
    output: ir.Value
    gain: ir.Value | None
    """None where it is 1 (and was folded away)."""
    bias: ir.Value | None
    epsilon: float


@dataclass(frozen=True, eq=False)
class Rotary:
    """Rotary position embedding: pairs of channels turned by angles that grow with the position.

    With ``(a, b)`` a pair: ``(a cos - b sin, b cos + a sin)``. The pairs are channels ``i`` and
    ``i + dims / 2``, or neighbours when ``interleaved``.
    """

    input: ir.Value
    output: ir.Value
    cos: ir.Value
    """As it is multiplied with; it broadcasts against ``input`` in its ``layout``."""
    sin: ir.Value
    interleaved: bool
    dims: int
    """How many of the leading channels are turned; the others pass."""
    columns: int
    """Last dimension of cos and sin: ``dims``, or ``dims / 2`` where a pair shares one."""
    layout: Layout


@dataclass(frozen=True, eq=False)
class Head:
    """Queries, keys or values on their way from the layer that makes them to the attention."""

    linear: Linear | None
    """None where no layer with a constant weight could be told; where one layer makes queries, keys
    and values, all three have its node."""
    norm: Norm | None
    """Over single heads, between layer and rotation (Qwen 3)."""
    projected: ir.Value
    """Split into heads, before the rotation and before ``past`` is put in front."""
    layout: Layout
    """Of ``projected``."""
    rotary: Rotary | None
    made: ir.Value
    """Of the new tokens, rotated, heads second: what is put behind ``past``."""
    made_layout: Layout
    past: ir.Value | None
    """The cache that the graph is given, heads second; None without a cache, and for queries."""
    present: ir.Value | None
    """The cache that it hands back: ``past`` and the new tokens."""


@dataclass(frozen=True, eq=False)
class Attention:
    """``softmax(scale * q k^T + mask) v`` over heads, several of which may share keys and values.

    Query head ``h`` reads head ``h * kv_heads / heads`` of keys and values.
    """

    softmax: ir.Node
    query: Head
    key: Head
    value: Head
    scale: float
    mask: ir.Value | None
    """Added to the scores; None where there is none."""
    heads: int
    kv_heads: int
    head_size: int
    output: ir.Value
    """Heads side by side again: batch, sequence, heads * value size."""

    @property
    def value_size(self) -> int:
        """Channels of a head of values; ``head_size`` is that of queries and keys."""
        shape = self.output.shape
        assert shape is not None and isinstance(shape[-1], int)  # as it was recognized
        return shape[-1] // self.heads


def unlike_values(attention: Attention) -> str:
    """That heads of values are of another size than those of keys; empty where they are not."""
    keys, values = attention.head_size, attention.value_size
    return "" if keys == values else f"heads of keys have {keys} channels, those of values {values}"


@dataclass(frozen=True, eq=False)
class Mlp:
    """``down(act(gate(x)) * up(x))``, or without ``gate`` ``down(act(up(x)))``."""

    gate: Linear | None
    up: Linear
    down: Linear
    hidden: ir.Value
    """What ``down`` reads."""
    activation: str
    """Of gate, or of up where there is none: ``silu``, ``gelu``, ``relu``; else the op's name."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One block of a decoder."""

    attention: Attention
    o: Linear
    """The layer behind the attention."""
    attention_norm: Norm | None
    """In front of queries, keys and values; None where the block normalizes behind (post-norm)."""
    mlp_norm: Norm | None
    mlp: Mlp | None
    residual: ir.Value | None
    """The stream behind attention, which the MLP's result is added to."""
    output: ir.Value | None
    """The stream behind the block."""


@dataclass(frozen=True, eq=False)
class Decoder:
    """A stack of causal attention blocks, in graph order."""

    layers: tuple[Layer, ...]
    heads: int
    kv_heads: int
    head_size: int
    embedding: ir.Node | None
    """The Gather that makes the stream, or its first summand."""
    norm: Norm | None
    """Behind the last block."""
    head: Linear | None
    """Makes the logits; its weight may be the embedding's, transposed."""

    @property
    def has_cache(self) -> bool:
        """Whether every block is given a cache and hands it back."""
        heads = (head for one in self.layers for head in (one.attention.key, one.attention.value))
        return all(head.past is not None and head.present is not None for head in heads)
