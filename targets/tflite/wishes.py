"""In which order the readers of a graph input want it, so that it is stored so from the start."""

from collections import deque
from typing import Final

import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.tflite.layout import Perm, apply, channels_last, identity

CHANNELS_LAST: Final = frozenset(
    {
        "AveragePool",
        "Conv",
        "ConvTranspose",
        "DepthToSpace",
        "MaxPool",
        "Resize",
        "SpaceToDepth",
        "Upsample",
    }
)
"""Ops whose operators have channels last."""

LAYOUT_FIXED: Final = frozenset(
    {"Flatten", "Gather", "Gemm", "MatMul", "Reshape", "Squeeze", "Unsqueeze"}
)
"""Ops beyond which axes are other ones: nothing is asked behind them."""


def wish(value: ir.Value) -> Perm | None:
    """The order in which the nearest op that cares reads a value; None when none does.

    Ops that work on any layout (arithmetic, padding, Concat...) pass the question on to their
    readers; a Transpose renumbers the axes.
    """
    rank = g.rank(value)
    if rank is None or rank < 3:
        return None
    queue = deque([(value, identity(rank))])
    seen = {value}
    while queue:
        # ``axes[i]``: the axis of the graph input that is axis i of this value.
        current, axes = queue.popleft()
        for use in current.uses():
            node = use.node
            if node.op_type in CHANNELS_LAST:
                if use.idx == 0:
                    return apply(channels_last(rank), axes)
                continue
            if node.op_type in LAYOUT_FIXED:
                continue
            order = axes
            if node.op_type == "Transpose":
                reverse = tuple(range(rank))[::-1]
                order = tuple(axes[i] for i in g.attribute_ints(node, "perm", reverse))
            for output in node.outputs:
                if output not in seen and g.rank(output) == rank:
                    seen.add(output)
                    queue.append((output, order))
    return None
