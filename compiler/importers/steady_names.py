"""Constants are called by what reads them: some converters number them differently in every run."""

import re
from typing import Final

import onnx

_NUMBERED: Final = re.compile(r"__\d+$")


def name_by_readers(model: onnx.ModelProto) -> None:
    """Give each numbered constant of the main graph the name of its first reader, and that order.

    tf2onnx counts the constants that it makes, and of equal ones keeps any: which, and so the names
    and their order, depends on where objects lie in memory. ``const__12`` becomes
    ``READER/operand_1``, in the order of the nodes. Left alone: names without such a number, ends,
    constants that only a subgraph reads.
    """
    graph = model.graph
    ends = {value.name for value in (*graph.input, *graph.output)}
    place: dict[str, tuple[int, int]] = {}
    renamed: dict[str, str] = {}
    taken = {v for node in graph.node for v in node.output} | {t.name for t in graph.initializer}
    constants = {tensor.name for tensor in graph.initializer} - ends
    for number, node in enumerate(graph.node):
        for index, name in enumerate(node.input):
            if name not in constants or name in place:
                continue
            place[name] = (number, index)
            wanted = f"{_NUMBERED.sub('', node.name or node.op_type)}/operand_{index}"
            if _NUMBERED.search(name) and not _in_subgraphs(graph, name):
                while wanted in taken:
                    wanted += "_"
                taken.add(wanted)
                renamed[name] = wanted
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    last = (len(graph.node), 0)
    tensors = sorted(graph.initializer, key=lambda t: (place.get(t.name, last), t.name))
    copies = [onnx.TensorProto.FromString(t.SerializeToString()) for t in tensors]
    del graph.initializer[:]
    for copy in copies:
        copy.name = renamed.get(copy.name, copy.name)
    graph.initializer.extend(copies)


def _in_subgraphs(graph: onnx.GraphProto, name: str) -> bool:
    return any(
        name in inner.input or (a.HasField("g") and _in_subgraphs(a.g, name))
        for node in graph.node
        for a in node.attribute
        if a.HasField("g")
        for inner in a.g.node
    )
