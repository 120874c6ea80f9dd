"""Prepares a finished model for ONNX Runtime's exact mode, which stumbles over shared weights.

With ``session.x64quantprecision`` ONNX Runtime 1.32 turns S8 weights into U8, under a new name made
from the old one: for the second node that reads the same weight or zero point, that name is taken
and the model does not load.
"""

from collections.abc import Iterator

import onnx

S8 = onnx.TensorProto.INT8


def give_own_weights(model: onnx.ModelProto) -> bool:
    """Copy S8 constants until each has one reader, in place; say whether any was copied.

    A DequantizeLinear of a constant is copied with it, one for each node that reads it. The main
    graph only: a QDQ graph has no quantizers elsewhere.
    """
    graph = model.graph
    constants = {t.name: t for t in graph.initializer if t.data_type == S8}
    changed = _copy_dequantizers(graph, constants)
    return _copy_constants(graph, constants) or changed


def _copy_dequantizers(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto]) -> bool:
    nodes: list[onnx.NodeProto] = []
    makers = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    taken = {output.name for output in graph.output}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name not in makers:
                continue
            if name in taken:
                copy = onnx.NodeProto()
                copy.CopyFrom(makers[name])
                copy.name = copy.output[0] = f"{name}__{len(nodes)}_{index}"
                nodes.append(copy)
                node.input[index] = copy.output[0]
            taken.add(name)
        nodes.append(node)
    if len(nodes) == len(graph.node):
        return False
    copies = [_copied(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return True


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _copy_constants(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto]) -> bool:
    taken: set[str] = set()
    changed = False
    for place, (node, index) in enumerate(_reads(graph, constants)):
        name = node.input[index]
        if name in taken:
            copy = graph.initializer.add()
            copy.CopyFrom(constants[name])
            copy.name = node.input[index] = f"{name}__{place}"
            changed = True
        taken.add(name)
    return changed


def _reads(
    graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto]
) -> Iterator[tuple[onnx.NodeProto, int]]:
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in constants:
                yield node, index
