"""Nodes that compute the same from the same, merged (common subexpression elimination)."""

from collections.abc import Hashable
from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core.graph import constant, inherit
from qcompile.passes.prepare.edit import is_constant

NAME = "MergeDuplicates"

SMALL_ELEMENTS = 64
"""Constants up to this size are compared by content, larger ones by identity."""

RANDOM = ("RandomUniform", "RandomNormal", "RandomUniformLike", "RandomNormalLike", "Multinomial",
          "Bernoulli", "Dropout")  # fmt: skip


@dataclass(frozen=True)
class MergeDuplicates(ir.passes.InPlacePass):
    """Let the readers of a node read an equal, earlier one. Keeps the float function to the bit.

    1. Two nodes are equal if operator, attributes and inputs are: inputs are the same value, or
       small constants of the same type, shape and content.

    Left alone: nodes with subgraphs, random ones, and those that make a graph output. (The pass
    of onnx-ir compares constants by identity only and makes nodes without a name.)
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        first: dict[Hashable, ir.Node] = {}
        modified = False
        for node in tuple(model.graph):
            key = _key(node)
            if key is None:
                continue
            kept = first.setdefault(key, node)
            if kept is node or any(output.is_graph_output() for output in node.outputs):
                continue
            for old, new in zip(node.outputs, kept.outputs, strict=True):
                old.replace_all_uses_with(new)
            inherit(kept, NAME, kept, node)
            model.graph.remove(node, safe=True)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _key(node: ir.Node) -> Hashable | None:
    """What two equal nodes have in common; None for a node that equals no other."""
    if node.op_type in RANDOM:
        return None
    attributes: list[Hashable] = []
    for name in sorted(node.attributes):
        attribute = node.attributes[name]
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            return None
        attributes.append((name, _attribute_key(attribute)))
    inputs = tuple(map(_input_key, node.inputs))
    return (node.op_identifier(), len(node.outputs), tuple(attributes), inputs)


def _attribute_key(attribute: ir.Attr) -> Hashable:
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        return (tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes())
    return repr(attribute.value)


def _input_key(value: ir.Value | None) -> Hashable:
    if value is None or not is_constant(value):
        return value
    assert value.const_value is not None
    if value.const_value.size > SMALL_ELEMENTS:
        return value
    array = constant(value)
    assert array is not None
    return (value.dtype, array.shape, array.tobytes())
