"""Which layers could find the scales of their activations as the model runs (``--scheme auto``)."""

from typing import Final

import onnx_ir as ir

from qcompile.core.macs import macs
from qcompile.core.target import Target
from qcompile.passes.plan.assign import NOTHING, assign_dynamic

WORTH_TRYING: Final = 0.05
"""Share of a model's multiply-adds that such layers must do for a plan of their own."""

_PRODUCTS: Final = frozenset({"MatMul", "Gemm"})

REASON: Final = "chosen: it keeps more when its scales are found as the model runs"


def dynamic_layers(graph: ir.Graph, target: Target) -> dict[str, str]:
    """The nodes that have a kernel which quantizes its activations, with the reason to take it.

    Convolutions are not among them: what lies between them would have to be float.
    Empty where they do less than ``WORTH_TRYING`` of the work: in a convolutional network the last
    layer alone has such a kernel.

    Args:
        graph: the canonical float graph.
        target: has the kernels.
    """
    if "w8a8-dynamic" not in target.schemes:
        return {}
    nodes = assign_dynamic(graph, target, NOTHING).nodes
    work = {node.name or "": macs(node) for node in graph}
    found = [n for n, entry in nodes.items() if entry.mode == "dynamic" and entry.op in _PRODUCTS]
    share = sum(work[name] for name in found) / max(sum(work.values()), 1)
    return dict.fromkeys(found, REASON) if share >= WORTH_TRYING else {}
