"""What of an ONNX file ONNX Runtime runs in floats: nodes, and the islands they form."""

from pathlib import Path

import onnxruntime as ort

from qcompile.core.accelerator import Offload, OffNode
from qcompile.core.pieces import count_pieces
from qcompile.core.target import Target
from qcompile.targets.onnxruntime.executed import executed


def offload(artefact: bytes | Path, target: Target) -> Offload:
    """Nodes of ONNX Runtime's own graph, its quantizers left out: they are the borders.

    Raises:
        QCompileError: RUNTIME_REFUSED when ONNX Runtime does not load the model.
    """
    nodes = executed(artefact, target)
    on = [node for node in nodes if node.integer]
    off = [node for node in nodes if not node.integer]
    return Offload(
        to="integer kernels",
        nodes=len(nodes),
        on=len(on),
        partitions=count_pieces([(node.reads, node.makes) for node in on]),
        islands=count_pieces([(node.reads, node.makes) for node in off]),
        off=tuple(OffNode(next(iter(node.makes), node.name), node.op, node.reason) for node in off),
        source=f"onnxruntime {ort.__version__}",
    )
