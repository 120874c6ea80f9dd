"""The stem of a network on pictures: its first layers, up to a depthwise one.

There the picture is largest and has the fewest channels: an integer kernel fills a part of its
lanes, and a depthwise layer has few products to save. Its activations are what a network loses most
by: in MobileNet v1 half of the noise of the logits comes of the first two. (That a stem in floats
may even take less time is the target's to say, ``Target.float_stem``.)
"""

from typing import Final

import onnx_ir as ir

from qcompile.passes.plan.patterns.first_layer import BETWEEN
from qcompile.passes.plan.patterns.pattern import Pattern, computed, pattern
from qcompile.passes.prepare.linear import Layer, layer_of

NAME: Final = "stem"
LONGER: Final = "longer stem"
LONGEST: Final = "longest stem"
_WHY: Final = "the first activations, of few channels, make most of the noise"

COLOURS: Final = 4
"""Most channels of a picture."""

_BEHIND: Final = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish"})
"""Activation functions of one computed input."""


def find(graph: ir.Graph) -> list[Pattern]:
    """The stem up to the first depthwise layer.

    1. A Conv over two axes that reads a float input of the model of at most ``COLOURS`` channels,
       perhaps moved or scaled by constants before.
    2. A depthwise Conv behind it; each with an activation function behind it or none.
    3. Nothing else reads what lies between them.
    """
    return _patterns(graph, NAME, 1)


def find_longer(graph: ir.Graph) -> list[Pattern]:
    """The stem up to the second depthwise layer, with at most one other Conv in between."""
    return _patterns(graph, LONGER, 2)


def find_longest(graph: ir.Graph) -> list[Pattern]:
    """The stem up to the third depthwise layer, with at most one other Conv between two."""
    return _patterns(graph, LONGEST, 3)


def _patterns(graph: ir.Graph, name: str, depthwise: int) -> list[Pattern]:
    found = (_stem(node, depthwise) for node in graph)
    return [pattern(name, f"{name}: {_WHY}", nodes, nodes) for nodes in found if nodes]


def _stem(first: ir.Node, depthwise: int) -> list[ir.Node]:
    """The nodes from the input to a depthwise layer of that number; empty where it has no such."""
    layer = _conv(first)
    front = None if layer is None or layer.in_channels > COLOURS else _front(first)
    if front is None:
        return []
    nodes = [*front, *_with_function(first)]
    seen = others = 0
    while seen < depthwise:
        behind = _reader(nodes[-1])
        layer = _conv(behind)
        if behind is None or layer is None:
            return []
        nodes += _with_function(behind)
        if 1 < layer.groups == layer.in_channels:
            seen += 1
        else:
            others += 1
        if others > seen:
            return []
    return nodes


def _with_function(node: ir.Node) -> list[ir.Node]:
    """A node, and the activation function that alone reads it."""
    behind = _reader(node)
    is_function = behind is not None and behind.op_type in _BEHIND and len(computed(behind)) == 1
    return [node, behind] if behind is not None and is_function else [node]


def _reader(node: ir.Node) -> ir.Node | None:
    """The one node that reads the first output of a node, unless the model gives it out."""
    value = node.outputs[0]
    readers = {use.node for use in value.uses()}
    return readers.pop() if len(readers) == 1 and not value.is_graph_output() else None


def _conv(node: ir.Node | None) -> Layer | None:
    layer = layer_of(node)
    is_flat = layer is not None and layer.node.op_type == "Conv" and layer.output_rank == 4
    return layer if is_flat else None


def _front(node: ir.Node) -> list[ir.Node] | None:
    """What moves or scales the model's input before a layer; None where it reads another value."""
    found: list[ir.Node] = []
    value = node.inputs[0]
    while value is not None and not value.is_graph_input():
        before = value.producer()
        if before is None or before.op_type not in BETWEEN or len(computed(before)) != 1:
            return None
        found.insert(0, before)
        (value,) = computed(before)
    is_float = value is not None and value.dtype is not None and value.dtype.is_floating_point()
    return found if is_float else None
