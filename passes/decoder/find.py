"""The decoder of a language model, found in its graph."""

from dataclasses import dataclass, field

import onnx_ir as ir

from qcompile.core.graph import attribute_int
from qcompile.passes.decoder.attention import UnlikeError, attention_of, is_causal
from qcompile.passes.decoder.mlp import block_of
from qcompile.passes.decoder.parts import from_op, linear_of, norm_of
from qcompile.passes.decoder.records import Attention, Decoder, Layer, Linear, Norm
from qcompile.passes.prepare.edit import is_constant, is_op, operand

FUSED = ("Attention", "GroupQueryAttention", "MultiHeadAttention")
"""Operators that hold a whole attention, whoever wrote them."""


@dataclass
class Search:
    """What a graph was found to be."""

    decoder: Decoder | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    """Node name -> why it is no part of a decoder's attention that is understood."""

    @property
    def why_not(self) -> str:
        """Why there is no decoder: one sentence, naming a node where one stands in the way."""
        if self.decoder is not None:
            return ""
        whys = (f"{name}: {why}" for name, why in self.reasons.items())
        return next(whys, "no Softmax in it is part of an attention")


def find_decoder(graph: ir.Graph) -> Decoder | None:
    """The decoder that a graph is, or None; ``search_decoder`` says why not.

    Works on canonical graphs and on those of exporters: nothing is told by names.
    """
    return search_decoder(graph).decoder


def search_decoder(graph: ir.Graph) -> Search:
    """The decoder that a graph is, and what stands in the way of one.

    It is one when every Softmax over four axes is a causal attention of the same numbers of heads.
    """
    search, found = Search(), []
    for node in graph:
        if node.op_type in FUSED:
            search.reasons[node.name or ""] = f"the model has {node.op_type} of its own"
        if not is_op(node, "Softmax"):
            continue
        try:
            found.append(attention_of(node))
        except UnlikeError as error:
            search.reasons[error.node.name or ""] = error.why
    if search.reasons or not found:
        return search
    _compare(found, search)
    layers = [] if search.reasons else [_layer(one, search) for one in found]
    whole = tuple(layer for layer in layers if layer is not None)
    if len(whole) == len(found):
        search.decoder = _decoder(graph, whole)
    return search


def _compare(found: list[Attention], search: Search) -> None:
    """Note where an attention is not causal, or not of the same heads as the first one."""
    for one in found:
        name = one.softmax.name or ""
        if not is_causal(one.mask):
            search.reasons[name] = "its mask lets tokens see those behind them"
        elif _heads(one) != _heads(found[0]):
            search.reasons[name] = f"it has {_heads(one)} heads, the first one {_heads(found[0])}"


def _heads(attention: Attention) -> tuple[int, int, int]:
    return attention.heads, attention.kv_heads, attention.head_size


def _layer(attention: Attention, search: Search) -> Layer | None:
    """The block around an attention."""
    o = None
    for use in attention.output.uses():
        o = _biased(use.node.outputs[0]) if is_op(use.node, "MatMul", "Gemm", "Reshape") else None
        if o is not None:
            break
    if o is None:
        search.reasons[attention.softmax.name or ""] = "no layer follows its heads"
        return None
    linear = attention.query.linear
    norm = norm_of(linear.input) if linear is not None else None
    block = block_of(o, linear.input if linear is not None else None)
    return Layer(attention, o, norm, block.norm, block.mlp, block.residual, block.output)


def _biased(value: ir.Value) -> Linear | None:
    """The layer that makes a value or the value with its bias added."""
    adds = (u.node.outputs[0] for u in value.uses() if is_op(u.node, "Add"))
    for candidate in (*adds, value):
        found = linear_of(candidate)
        if found is not None:
            return found
    flat = (u.node for u in value.uses() if is_op(u.node, "Gemm"))
    return next((f for n in flat if (f := linear_of(n.outputs[0])) is not None), None)


def _decoder(graph: ir.Graph, layers: tuple[Layer, ...]) -> Decoder:
    first = layers[0].attention
    norm, head = None, None
    for value in graph.outputs:
        found = linear_of(value)
        if found is not None:
            head, norm = found, _before(found.input)
            break
    start = layers[0].attention_norm
    stream = start.input if start is not None else _stream(layers[0])
    return Decoder(
        layers, first.heads, first.kv_heads, first.head_size, _embedding(stream), norm, head
    )


def _stream(layer: Layer) -> ir.Value | None:
    linear = layer.attention.query.linear
    return None if linear is None else linear.input


def _before(value: ir.Value) -> Norm | None:
    """The norm in front of the head, where only the last tokens' logits may be computed."""
    norm = norm_of(value)
    while norm is None:
        node = from_op(value, "Gather", "Slice", "Reshape", "Squeeze", "Unsqueeze", "Cast")
        if node is None:
            return None
        value = operand(node, 0)
        norm = norm_of(value)
    return norm


def _embedding(stream: ir.Value | None) -> ir.Node | None:
    """The Gather from a constant table that begins the stream; positions may be added to it."""
    todo = [stream]
    while todo:
        value = todo.pop(0)
        node = value.producer() if value is not None else None
        if is_op(node, "Gather") and node is not None:
            table = operand(node, 0)
            made = from_op(table, "Transpose", "Identity", "DequantizeLinear")
            inner = operand(made, 0) if made is not None else table
            if is_constant(inner) and attribute_int(node, "axis", 0) == 0:
                return node
        elif is_op(node, "Add", "Mul", "Cast", "LayerNormalization", "Unsqueeze") and node:
            todo.extend(node.inputs)
    return None
