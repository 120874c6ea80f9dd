"""Nodes whose results an If moves: ONNX Runtime 1.32 can end the process over such integers.

An If whose condition turns out to be constant is inlined. ONNX Runtime then carries a
DequantizeLinear past what its body only moves, and where another If or Loop reads the outcome in
its body, looks for that input in a list that does not have it: an assertion, which no caller can
catch (``QDQPropagationTransformer``). What is moved in the open stays integer, and is safe.
"""

from typing import Final

import onnx_ir as ir

MOVING: Final = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "MaxPool", "Flatten", "Gather"}
    | {"Expand", "Identity", "Split", "Concat", "DepthToSpace"}
)
REASON: Final = "an If moves it, which ONNX Runtime cannot always load in integers"


def captured_nodes(graph: ir.Graph) -> dict[str, str]:
    """Node name -> reason, for the nodes of a graph that must stay float for it.

    They make what a node inside a subgraph reads and only moves. In front of nodes that only move
    numbers in the open, all count up to the ones that made them.
    """
    floats: dict[str, str] = {}
    for node in graph:
        readers = (use.node for value in node.outputs for use in value.uses())
        if any(r.graph is not graph and r.op_type in MOVING for r in readers):
            floats |= {maker.name or "": REASON for maker in _makers(node)}
    return floats


def _makers(node: ir.Node) -> set[ir.Node]:
    """The node itself, and where it only moves numbers all up to the ones that made them."""
    found: set[ir.Node] = set()
    waiting = [node]
    while waiting:
        maker = waiting.pop()
        if maker in found:
            continue
        found.add(maker)
        if maker.op_type in MOVING:
            producers = (value.producer() for value in maker.inputs if value is not None)
            waiting += [producer for producer in producers if producer is not None]
    return found
