"""All patterns that a graph's structure alone tells, in the order in which they name nodes."""

from collections.abc import Callable, Mapping
from typing import Final

import onnx_ir as ir

from qcompile.passes.plan.patterns import (
    attention_softmax,
    first_layer,
    gated_activation,
    gated_mlp,
    last_layer,
    scores,
    squeeze_excite,
    stem,
)
from qcompile.passes.plan.patterns.pattern import Pattern

PATTERNS: Final[Mapping[str, Callable[[ir.Graph], list[Pattern]]]] = {
    squeeze_excite.NAME: squeeze_excite.find,
    attention_softmax.NAME: attention_softmax.find,
    stem.NAME: stem.find,
    stem.LONGER: stem.find_longer,
    stem.LONGEST: stem.find_longest,
    scores.NAME: scores.find,
    first_layer.NAME: first_layer.find,
    last_layer.NAME: last_layer.find,
    "gated activation": gated_activation.find,
    gated_mlp.NAME: gated_mlp.find,
}
"""What a step of the search is called -> finds the places. Detection tails depend on the target and
stand by themselves (``detection_tail``)."""


def pattern_names(graph: ir.Graph) -> dict[str, str]:
    """Node name -> the pattern that it is a part of; of several the first of the table."""
    names: dict[str, str] = {}
    for find in PATTERNS.values():
        for found in find(graph):
            for node in found.nodes:
                names.setdefault(node, found.name)
    return names
