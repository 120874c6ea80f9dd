"""Detection tails: the decoding of boxes and scores behind the last convolutions of a detector.

A box coordinate on an 8-bit grid of the whole picture is off by up to 1/512 of it, a pixel or more
where small objects are ten pixels wide; and a Concat that joins boxes in pixels (0..640) with
scores (0..1) gives both one scale, of which a score is less than half a step: all of them become 0.
The numbers in front of the tail (offsets, logits) fill their grid and lose little. So the tail is
what to leave wide.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import storage_type
from qcompile.core.target import Target
from qcompile.core.units import COMPUTE_OPS
from qcompile.passes.plan.patterns.pattern import computed

Remedy = Literal["wide", "float"]

ARITHMETIC: Final = frozenset(
    {"Add", "Sub", "Mul", "Div", "Exp", "Pow", "Sqrt", "Neg", "Reciprocal", "Max", "Min", "Tanh"}
)
SQUASHING: Final = frozenset({"Sigmoid", "Softmax", "HardSigmoid"})
MOVING: Final = frozenset(
    {"Slice", "Split", "Gather", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"}
    | {"Expand", "Tile", "Cast", "Clip", "Relu"}
)
"""They make no new numbers: an 8-bit grid in front of them is the same grid behind them."""
JOINING: Final = frozenset({"Concat"})
AFTER: Final = frozenset({"NonMaxSuppression", "TopK", "ArgMax", "ReduceMax", "GatherND"})
"""What may read a tail inside the graph, and is none of it."""

BOXES, SCORES = "detection tail", "detection scores"


@dataclass(frozen=True)
class Tail:
    """Nodes up to the graph's outputs that are worth more than 8 bits."""

    name: str
    """Of the pattern: ``BOXES`` or ``SCORES``."""
    nodes: tuple[str, ...]
    """Their names, in graph order; everything that reads one of them is one of them."""
    remedy: Remedy | None
    """What the target offers: int16 activations, or leaving the nodes float; None for neither."""
    reason: str
    """One sentence for the report."""


def find_tails(graph: ir.Graph, target: Target) -> list[Tail]:
    """The detection tails of a graph, by its structure alone.

    1. A tail is made of the nodes behind the last multiply-adds: elementwise arithmetic, squashing,
       joining and moving, all of whose readers are in the tail. A convolution of 1x1 to a single
       channel counts as arithmetic (the expectation over bins of distances, Li et al. 2020). What
       the multiply-add in front absorbs (Relu, Clip, a bias) is none of it, nor are nodes that only
       move what comes in.
    2. Connected nodes are one tail. It decodes boxes where a Concat joins results of arithmetic, or
       squashed with unsquashed numbers: several quantities on one scale.
    3. In a graph with boxes, a part that squashes (the scores beside them) is a tail as well.

    Returns:
        Those with the remedy of the target: ``wide`` where it has int16 activations for single
        nodes, ``float`` where its ends are floats anyway; none where it has neither, nor where
        its activations have more than 8 bits as they are.
    """
    return [tail for tail in all_tails(graph, target) if tail.remedy is not None]


def all_tails(graph: ir.Graph, target: Target) -> list[Tail]:
    """As ``find_tails``, with those for which the target has no remedy (None)."""
    if storage_type(target.activations.dtype).itemsize > 1:
        return []
    remedy = _remedy(target)
    behind = _behind_the_last_layers(graph, target)
    parts = _parts([n for n in behind if n.op_type not in AFTER])
    boxes = [part for part in parts if any(_joins_quantities(node, part) for node in part)]
    if not boxes:
        return []
    scores = [p for p in parts if p not in boxes and any(n.op_type in SQUASHING for n in p)]
    return [
        *(_tail(BOXES, part, remedy, _WHY_BOXES) for part in boxes),
        *(_tail(SCORES, part, remedy, _WHY_SCORES) for part in scores),
    ]


_WHY_BOXES: Final = "detection tail: one 8-bit scale for box coordinates, or for boxes and scores"
_WHY_SCORES: Final = "detection scores: one 8-bit scale for the logits of all levels"


def _remedy(target: Target) -> Remedy | None:
    if target.wide is not None:
        return "wide"
    return "float" if target.ends == "float" else None  # else integers alone are what it is for


def _tail(name: str, nodes: list[ir.Node], remedy: Remedy | None, reason: str) -> Tail:
    return Tail(name, tuple(node.name or "" for node in nodes), remedy, reason)


def _behind_the_last_layers(graph: ir.Graph, target: Target) -> list[ir.Node]:
    """The nodes of rule 1, in graph order."""
    closed: set[ir.Node] = set()
    for node in reversed(list(graph)):
        readers = (use.node for value in node.outputs for use in value.uses())
        if _belongs(node, target) and all(reader in closed for reader in readers):
            closed.add(node)
    kept: dict[ir.Node, None] = {}
    for node in graph:
        if node in closed and (_makes_numbers(node) or any(p in kept for p in _producers(node))):
            kept[node] = None
    return list(kept)


def _belongs(node: ir.Node, target: Target) -> bool:
    if _is_absorbed(node, target):
        return False
    known = ARITHMETIC | SQUASHING | MOVING | JOINING | AFTER
    return node.op_type in known or _is_expectation(node)


def _is_absorbed(node: ir.Node, target: Target) -> bool:
    """Whether a multiply-add in front does the node's work."""
    inputs = computed(node)
    producer = inputs[0].producer() if len(inputs) == 1 else None
    if producer is None or producer.op_type not in COMPUTE_OPS or _is_expectation(producer):
        return False
    rule = target.rule(producer.op_type)
    return rule is not None and node.op_type in rule.absorbs


def _is_expectation(node: ir.Node) -> bool:
    if node.op_type != "Conv":
        return False
    shape = g.static_shape(node.inputs[1]) or ()
    return shape[:1] == (1,) and all(k == 1 for k in shape[2:])


def _makes_numbers(node: ir.Node) -> bool:
    if node.op_type in JOINING:
        return len(computed(node)) > 1
    return node.op_type in ARITHMETIC | SQUASHING or _is_expectation(node)


def _producers(node: ir.Node) -> Iterator[ir.Node]:
    for value in computed(node):
        producer = value.producer()
        if producer is not None:
            yield producer


def _parts(nodes: list[ir.Node]) -> list[list[ir.Node]]:
    """Connected nodes together; each part, and the parts by their first node, in graph order."""
    part_of: dict[ir.Node, list[ir.Node]] = {}
    for node in nodes:
        mine = [node]
        for other in _producers(node):
            theirs = part_of.get(other)
            if theirs is not None and theirs is not mine:
                mine = [*theirs, *mine]
                for member in mine:
                    part_of[member] = mine
        part_of[node] = mine
    place = {node: index for index, node in enumerate(nodes)}
    unique = {id(part): part for part in part_of.values()}.values()
    return sorted((sorted(p, key=place.__getitem__) for p in unique), key=lambda p: place[p[0]])


def _joins_quantities(node: ir.Node, part: Collection[ir.Node]) -> bool:
    """Whether a Concat brings results of arithmetic, or several quantities, onto one scale."""
    if node.op_type not in JOINING:
        return False
    kinds = {_kind(value.producer(), part) for value in computed(node)}
    return "arithmetic" in kinds or len(kinds) > 1


def _kind(node: ir.Node | None, part: Collection[ir.Node]) -> str:
    """What was last done to the numbers that a node gives: arithmetic, squashing, or nothing."""
    while node is not None and node in part:
        if node.op_type in SQUASHING:
            return "squashed"
        if node.op_type in ARITHMETIC or _is_expectation(node):
            return "arithmetic"
        if node.op_type in JOINING:
            kinds = {_kind(value.producer(), part) for value in computed(node)}
            return kinds.pop() if len(kinds) == 1 else "arithmetic"
        node = next(_producers(node), None)
    return "raw"
