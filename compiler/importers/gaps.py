"""Types and shapes that onnx's inference leaves out though they are plain to see."""

import onnx_ir as ir

from qcompile.compiler.importers.tensors import graphs_of
from qcompile.core.graph import static_shape

LIKE_FIRST_INPUT = frozenset(
    {
        ("", "GroupNormalization"),
        ("", "SimplifiedLayerNormalization"),
        ("com.microsoft", "BiasGelu"),
        ("com.microsoft", "FastGelu"),
        ("com.microsoft", "Gelu"),
        ("com.microsoft", "QuickGelu"),
        ("com.microsoft", "SkipLayerNormalization"),
        ("com.microsoft", "SkipSimplifiedLayerNormalization"),
    }
)
"""(domain, operator) whose first output has the type and shape of the first input."""

TARGET_LENGTH = {"Reshape": 1, "ConstantOfShape": 0}
"""Operator -> which input holds the shape of the output: its length is the output's rank."""


def fill_gaps(model: ir.Model) -> bool:
    """Give values what the inference did not; True if there was something to give."""
    filled = False
    for graph in graphs_of(model):
        for node in graph:
            if node.outputs and node.outputs[0].shape is None:
                filled |= _like_first(node) or _rank_of_target(node)
    return filled


def _like_first(node: ir.Node) -> bool:
    if (node.domain, node.op_type) not in LIKE_FIRST_INPUT or not node.inputs:
        return False
    source, output = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or source.type is None:
        return False
    output.shape, output.type = ir.Shape(list(source.shape)), source.type
    return True


def _rank_of_target(node: ir.Node) -> bool:
    index = TARGET_LENGTH.get(node.op_type) if node.domain == "" else None
    if index is None or len(node.inputs) <= index:
        return False
    length = static_shape(node.inputs[index])
    if length is None or len(length) != 1 or node.outputs[0].type is None:
        return False
    node.outputs[0].shape = ir.Shape([None] * length[0])
    return True
