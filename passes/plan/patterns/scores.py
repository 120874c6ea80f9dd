"""Scores of classes: what stands between the last layer of a classifier and its output.

A last layer that gives floats rounds nothing, and of two close classes the better one stays the
better one. In integers both the layer's result and the probabilities are rounded to 256 steps: a
third of the noise of the logits of MLPerf Tiny's ResNet-8 is that of the former, an eighth of a
MobileNet's, and probabilities that differ by less than 1/256 become equal.
"""

from typing import Final

import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.units import is_point
from qcompile.passes.plan.patterns.pattern import Pattern, computed, in_order, pattern

NAME: Final = "scores of classes"
REASON: Final = "scores of classes: rounding them makes close ones equal"

_MOVES: Final = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
_FUNCTIONS: Final = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})


def find(graph: ir.Graph) -> list[Pattern]:
    """One pattern an output.

    1. A Gemm or MatMul that makes one row a sample, or a Conv of one tap on a picture of one
       position.
    2. Behind it at most one Softmax, LogSoftmax or Sigmoid and what only moves numbers, up to a
       float output. Nothing else reads what lies between.
    """
    found = []
    for output in graph.outputs:
        nodes = _behind_layer(output) if output.dtype == ir.DataType.FLOAT else []
        if nodes:
            nodes = in_order(graph, nodes)
            found.append(pattern(NAME, REASON, nodes, nodes))
    return found


def _behind_layer(output: ir.Value) -> list[ir.Node]:
    """The nodes between the last layer and an output; empty where there is no such layer."""
    nodes: list[ir.Node] = []
    value, functions = output, 0
    while (node := value.producer()) is not None:
        if value is not output and (value.is_graph_output() or g.only_consumer(value) is None):
            return []
        if _is_layer(node):
            return nodes
        functions += node.op_type in _FUNCTIONS
        if node.op_type not in _MOVES | _FUNCTIONS or functions > 1 or len(computed(node)) != 1:
            return []
        nodes.append(node)
        (value,) = computed(node)
    return []


def _is_layer(node: ir.Node) -> bool:
    is_row = node.op_type in {"Gemm", "MatMul"} and g.rank(node.outputs[0]) == 2
    return is_row or is_point(node)
