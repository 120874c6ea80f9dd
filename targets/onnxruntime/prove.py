"""The integer proof: what ONNX Runtime really executes, read from its own optimized graph."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort

from qcompile.core.target import Target
from qcompile.targets.onnxruntime.executor import open_session, session_options

_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


@dataclass(frozen=True)
class NodeProof:
    """Whether one node that the plan meant to be integer runs as integers."""

    name: str
    op: str
    integer: bool
    kernel: str
    """The op of ONNX Runtime's graph that does its work; empty when it was optimized away."""
    reason: str = ""
    """Why it is not integer."""


@dataclass(frozen=True)
class Proof:
    """What ONNX Runtime's optimized graph holds."""

    nodes: tuple[NodeProof, ...]
    kernels: Mapping[str, int]
    """Op type -> how many nodes of the optimized graph have it."""
    runtime: str
    """Name and version of the runtime that gave the proof."""

    @property
    def failures(self) -> tuple[NodeProof, ...]:
        """The nodes that were meant to be integer and are not."""
        return tuple(node for node in self.nodes if not node.integer)


def optimized_graph(artefact: bytes | Path) -> onnx.GraphProto:
    """ONNX Runtime's own graph after its fusions, before it changes the layout.

    Level EXTENDED makes the integer fusions; the level above only blocks and transposes them.

    Raises:
        QCompileError: RUNTIME_REFUSED when ONNX Runtime does not load the model.

    """
    with tempfile.TemporaryDirectory(prefix="qcompile-") as folder:
        path = Path(folder) / "optimized.onnx"
        options = session_options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(path)
        open_session(artefact, options)
        return onnx.load(str(path)).graph


def prove(artefact: bytes | Path, planned: Mapping[str, tuple[str, str]], target: Target) -> Proof:
    """Look up every planned node in ONNX Runtime's optimized graph.

    Args:
        artefact: the finished model, its bytes or its path.
        planned: node name -> (op type, name of the artefact's value that holds its result). For a
            quantized result that is the integer value behind its QuantizeLinear: when the node was
            fused, its kernel makes that value; when not, the quantizer is left over.
        target: its operator table names the kernels that count as integer.

    """
    graph = optimized_graph(artefact)
    producers = {output: node for node in graph.node for output in node.output}
    proofs = tuple(
        _prove_node(name, op, result, producers, target) for name, (op, result) in planned.items()
    )
    kernels = dict(sorted(Counter(node.op_type for node in graph.node).items()))
    return Proof(proofs, kernels, f"onnxruntime {ort.__version__}")


def _prove_node(
    name: str,
    op: str,
    result: str,
    producers: Mapping[str, onnx.NodeProto],
    target: Target,
) -> NodeProof:
    maker = producers.get(result)
    kernels = target.ops[op].kernels + target.ops[op].dynamic
    if maker is None:
        return NodeProof(name, op, True, "")
    if maker.op_type in _QUANTIZERS:
        before = producers.get(maker.input[0])
        what = before.op_type if before is not None else op
        return NodeProof(
            name, op, False, what, f"ONNX Runtime left {what} in float between its quantizers"
        )
    maker = _behind_reshapes(maker, kernels, producers)
    if maker.op_type in kernels:
        return NodeProof(name, op, True, maker.op_type)
    return NodeProof(name, op, False, maker.op_type, f"ONNX Runtime runs it as {maker.op_type}")


def _behind_reshapes(
    maker: onnx.NodeProto, kernels: tuple[str, ...], producers: Mapping[str, onnx.NodeProto]
) -> onnx.NodeProto:
    """The kernel itself, where ONNX Runtime put a Reshape behind it (MatMul + Add as QGemm)."""
    while maker.op_type not in kernels and maker.op_type in {"Reshape", "Transpose"}:
        before = producers.get(maker.input[0])
        if before is None:
            break
        maker = before
    return maker
