"""The values of attentions: what makes them, what reads their sums, and what lies between."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.passes.decoder.find import search_decoder
from qcompile.passes.decoder.records import Layer
from qcompile.passes.prepare.linear import layer_of


@dataclass(frozen=True, eq=False)
class Values:
    """Heads of values between two layers with constant weights."""

    maker: ir.Node
    """The layer whose outputs are the values, head after head."""
    bias: tuple[ir.Node, int] | None
    """Node and input index of a bias that is added behind it."""
    behind: ir.Node
    """The layer that reads the heads side by side."""
    heads: int
    """Heads of values; several of ``readers`` may share one."""
    readers: int
    size: int
    """Channels of a head."""
    turned: tuple[str, ...]
    """Names of the values between the layers that lie as heads do."""


def find_values(graph: ir.Graph) -> dict[str, Values]:
    """The values of a decoder's attentions that lie between two such layers, in graph order.

    Left out: values that the layer of the queries or keys makes too, that are normalized or
    rotated, or read by others than the attention.

    Returns:
        Name of what the layer makes -> the values; empty where the graph is no decoder.
    """
    decoder = search_decoder(graph).decoder
    found = {}
    for layer in decoder.layers if decoder is not None else ():
        values = _values(layer)
        if values is not None:
            found[values.maker.outputs[0].name or ""] = values
    return found


def _values(layer: Layer) -> Values | None:
    attention, value = layer.attention, layer.attention.value
    linear, behind = value.linear, layer_of(layer.o.node)
    if linear is None or linear in (attention.query.linear, attention.key.linear):
        return None
    maker = layer_of(linear.node)
    if maker is None or behind is None or value.norm is not None or value.rotary is not None:
        return None
    size, rest = divmod(maker.out_channels, attention.kv_heads)
    fits = not rest and behind.in_channels == attention.heads * size
    first = linear.node.outputs[0]
    if not fits or layer.o.input is not attention.output or len(linear.output.uses()) != 1:
        return None
    bias = None
    if linear.output is not first:
        adder = linear.output.producer()
        if adder is None or len(first.uses()) != 1 or linear.bias not in adder.inputs:
            return None
        bias = adder, list(adder.inputs).index(linear.bias)
    between = (first, linear.output, value.projected, value.made, value.present, attention.output)
    names = tuple(dict.fromkeys(v.name or "" for v in between if v is not None))
    return Values(linear.node, bias, layer.o.node, attention.kv_heads, attention.heads, size, names)
