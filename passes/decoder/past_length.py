"""How many tokens lie in a cache, told by the attention mask instead of by the cache's shape."""

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import attribute_int, make_initializer
from qcompile.passes.decoder.attention import ancestors
from qcompile.passes.decoder.positions import NAME
from qcompile.passes.decoder.records import Decoder
from qcompile.passes.prepare.edit import insert, is_op

TOKENS = 2
"""Axis of a cache's tokens."""


def mask_input(graph: ir.Graph, decoder: Decoder) -> ir.Value | None:
    """The input that says which of all tokens, earlier ones and new ones, are text.

    It is the only input of whole numbers (batch, ...) behind the attentions' masks whose second
    dimension is not that of the token numbers.
    """
    embedding = decoder.embedding
    tokens = embedding.inputs[1] if embedding is not None else None
    if tokens is None or tokens.shape is None or len(tokens.shape) != 2:
        return None
    read = {v for node in ancestors(decoder.layers[0].attention.mask) for v in node.inputs}
    found = [
        value
        for value in graph.inputs
        if value in read and _is_whole(value) and value.shape[1] != tokens.shape[1]  # type: ignore[index]
    ]
    return found[0] if len(found) == 1 else None


def _is_whole(value: ir.Value) -> bool:
    whole = value.dtype is not None and value.dtype.is_integer()
    return whole and value.shape is not None and len(value.shape) == 2


def count_by_mask(graph: ir.Graph, decoder: Decoder, mask: ir.Value) -> None:
    """Let what asks for the length of a cache be answered by the lengths of mask and tokens.

    A client that keeps caches at their full length, to have them written in place, hands over a
    longer one than there are tokens in it; the mask always covers the tokens that there are.

    Args:
        graph: whose attentions are done by an operator now; the Shapes of its cache inputs are
            replaced, in place.
        decoder: as it was before.
        mask: see ``mask_input``.
    """
    pasts = [
        h.past for layer in decoder.layers for h in (layer.attention.key, layer.attention.value)
    ]
    for past in pasts:
        for use in tuple(past.uses()) if past is not None else ():
            if is_op(use.node, "Shape") and past is not None and _asks_for_tokens(use.node):
                _replace(use.node, past, mask, decoder)


def _asks_for_tokens(node: ir.Node) -> bool:
    start, end = _span(node)
    return start <= TOKENS < end


def _span(node: ir.Node) -> tuple[int, int]:
    start, end = attribute_int(node, "start", 0), attribute_int(node, "end", 4)
    return start % 4 if start < 0 else start, end % 4 if end < 0 else end


def _replace(node: ir.Node, past: ir.Value, mask: ir.Value, decoder: Decoder) -> None:
    graph, embedding = node.graph, decoder.embedding
    assert isinstance(graph, ir.Graph)
    assert embedding is not None
    tokens = embedding.inputs[1]
    assert tokens is not None
    pattern = ir.Value(type=ir.TensorType(ir.DataType.INT64))

    def shape(value: ir.Value, start: int, end: int) -> ir.Value:
        name = f"{past.name}.of.{value.name}"
        attributes = {"start": start, "end": end}
        return insert(node, "Shape", [value], name, NAME, like=pattern, attributes=attributes)

    counts = [shape(mask, 1, 2), shape(tokens, 1, 2)]
    held = insert(node, "Sub", counts, f"{past.name}.held", NAME, like=pattern)
    size = make_initializer(graph, f"{past.name}.size", np.array([decoder.head_size], np.int64))
    parts = [shape(past, 0, TOKENS), held, size]
    whole = insert(
        node, "Concat", parts, f"{past.name}.sizes", NAME, like=pattern, attributes={"axis": 0}
    )
    ends = [make_initializer(graph, f"{past.name}.end", np.array([n])) for n in _span(node)]
    asked = insert(node, "Slice", [whole, *ends], f"{past.name}.asked", NAME, like=pattern)
    asked.shape = node.outputs[0].shape
    node.outputs[0].replace_all_uses_with(asked)
    graph.remove(node, safe=True)
