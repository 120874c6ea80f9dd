"""Which nodes carry recurrent state in and out of a model, and so stay float.

What a state loses in one step it brings into the next: in 8 bits over a range of -21 to 40 Silero's
detector, which lives on its own state, is 0.10 off in probability on average; in floats 0.01. So
nothing quantizes a state that is only moved, or gated, between the model's ends and what computes
with it; a layer that multiplies it by weights may.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import onnx_ir as ir

REASON: Final = "it carries recurrent state, whose errors would be fed back"

MOVING: Final = frozenset({
    "Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split",
    "Squeeze", "Transpose", "Unsqueeze",
})  # fmt: skip
GATING: Final = frozenset({"Add", "Mul", "Sub", "Where"})
"""What makes the next state of the last one, element by element."""
RECURRENT: Final = frozenset({"GRU", "LSTM", "RNN"})


def state_nodes(graph: ir.Graph, state: Mapping[str, str]) -> dict[str, str]:
    """Name of a node -> why it is to stay float.

    A state is what ``[state]`` names, and what an LSTM, GRU or RNN hands to an output of the model,
    or takes from an input as its first state, through nodes that only move numbers.

    Args:
        graph: the canonical float graph.
        state: output -> input.
    """
    kept: dict[str, str] = {}
    for value in graph.outputs:
        named = value.name in state
        way, reached = _behind(value, MOVING | GATING if named else MOVING)
        if named or reached:
            kept.update(dict.fromkeys(way, REASON))
    for value in graph.inputs:
        way, reached = _before(value)
        if value.name in state.values() or reached:
            kept.update(dict.fromkeys(way, REASON))
    return {node.name or "": REASON for node in graph if node.name in kept}


def _behind(value: ir.Value, passed: frozenset[str]) -> tuple[list[str], bool]:
    """Nodes on the way back from an output, and whether a recurrent layer's state lies there."""
    way, reached, pending, seen = list[str](), False, [value], set[ir.Value]()
    while pending:
        value = pending.pop()
        node = value.producer()
        if value in seen or node is None:
            continue
        seen.add(value)
        if node.op_type in RECURRENT and value is not node.outputs[0]:
            reached = True
        elif node.op_type in passed and not node.domain:
            way.append(node.name or "")
            pending += [v for v in node.inputs if v is not None and v.const_value is None]
    return way, reached


def _before(value: ir.Value) -> tuple[list[str], bool]:
    """Nodes on the way from an input, and whether a recurrent layer begins with it."""
    way, reached, pending, seen = list[str](), False, [value], set[ir.Node]()
    while pending:
        for node, index in _readers(pending.pop()):
            if node.op_type in RECURRENT and index >= 5:
                reached = True
            elif node.op_type in MOVING and not node.domain and node not in seen:
                seen.add(node)
                way.append(node.name or "")
                pending += node.outputs
    return way, reached


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    return ((use.node, use.idx) for use in value.uses())
