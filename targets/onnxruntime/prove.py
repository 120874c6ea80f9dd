"""The integer proof: what ONNX Runtime really executes, read from its own optimized graph."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime as ort

from qcompile.core.errors import QCompileError
from qcompile.core.proof import NodeProof, Planned, Proof
from qcompile.core.scratch import no_room, scratch_folder
from qcompile.core.target import Target
from qcompile.core.units import COMPUTE_OPS
from qcompile.targets.onnxruntime.block_weights import ACCURACY_LEVEL
from qcompile.targets.onnxruntime.executor import is_simulated, open_session, session_options

SIMULATED = "simulated: it computes in floats between its quantizers"
"""Why no node of a simulation is an integer one."""

_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


def optimized_graph(artefact: bytes | Path) -> onnx.GraphProto:
    """ONNX Runtime's own graph after its fusions, before it changes the layout.

    Level EXTENDED makes the integer fusions; the level above only blocks and transposes them.

    Large weights are not in it: nobody looks at them, and with them it might not fit a message.

    Raises:
        QCompileError: RUNTIME_REFUSED when ONNX Runtime does not load the model; OUTPUT_UNWRITABLE
            when it has no room to write its graph.

    """
    with scratch_folder() as folder:
        path = folder / "optimized.onnx"
        options = _options()
        options.optimized_model_filepath = str(path)
        for key, value in (("file_name", "weights"), ("min_size_in_bytes", "1024")):
            options.add_session_config_entry(
                f"session.optimized_model_external_initializers_{key}", value
            )
        try:
            open_session(artefact, options)
        except QCompileError as error:
            open_session(artefact, _options())  # raises again if it is not the writing
            raise no_room(f"ONNX Runtime cannot write its graph to {folder.parent}") from error
        return onnx.load(str(path), load_external_data=False).graph


def _options() -> ort.SessionOptions:
    options = session_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return options


def prove(artefact: bytes | Path, planned: Sequence[Planned], target: Target) -> Proof:
    """Look up every planned node in ONNX Runtime's optimized graph.

    Args:
        artefact: the finished model, its bytes or its path.
        planned: the nodes to look up.
        target: its operator table names the kernels that count as integer.

    """
    if is_simulated(artefact):
        return _simulated(artefact, planned)
    graph = optimized_graph(artefact)
    producers = {output: node for node in graph.node for output in node.output}
    proofs = tuple(_prove_node(node, producers, target) for node in planned)
    kernels = dict(sorted(Counter(node.op_type for node in graph.node).items()))
    return Proof(proofs, kernels, f"onnxruntime {ort.__version__}")


def _simulated(artefact: bytes | Path, planned: Sequence[Planned]) -> Proof:
    """What a simulation runs: its own nodes as they are written, all of them in floats."""
    raw = artefact if isinstance(artefact, bytes) else artefact.read_bytes()
    graph = onnx.load_from_string(raw).graph
    proofs = tuple(NodeProof(node.name, node.op, False, node.op, SIMULATED) for node in planned)
    kernels = dict(sorted(Counter(node.op_type for node in graph.node).items()))
    return Proof(proofs, kernels, f"onnxruntime {ort.__version__}")


def _prove_node(
    node: Planned, producers: Mapping[str, onnx.NodeProto], target: Target
) -> NodeProof:
    """Judge a node by its result, and if that is not integer by what it makes itself."""
    if node.weights_only:
        return _prove_stored(node, producers, target)
    result = next((name for name in node.results if name in producers), None)
    whole = _prove_value(node, result, producers, target)
    if whole.integer or node.own not in producers:
        return whole
    alone = _prove_value(node, node.own, producers, target)
    return replace(alone, absorbed=whole.reason) if alone.integer else whole


def _prove_stored(
    node: Planned, producers: Mapping[str, onnx.NodeProto], target: Target
) -> NodeProof:
    """Whether a kernel reads its weight as integers, in a form that is fast."""
    maker = next((producers[name] for name in node.results if name in producers), None)
    kernels = target.ops[node.op].weights_only
    if maker is None:
        why = "its result does not appear in ONNX Runtime's graph"
        return NodeProof(node.name, node.op, False, "", why)
    maker = _behind_reshapes(maker, kernels, producers)
    if maker.op_type not in kernels:
        why = f"ONNX Runtime runs it as {maker.op_type} of floats"
        return NodeProof(node.name, node.op, False, maker.op_type, why)
    levels = [a.i for a in maker.attribute if a.name == "accuracy_level"]
    if maker.op_type == "MatMulNBits" and levels != [ACCURACY_LEVEL]:
        why = f"{maker.op_type} without accuracy_level {ACCURACY_LEVEL} is slow"
        return NodeProof(node.name, node.op, False, maker.op_type, why)
    return NodeProof(node.name, node.op, True, maker.op_type)


def _prove_value(
    node: Planned, result: str | None, producers: Mapping[str, onnx.NodeProto], target: Target
) -> NodeProof:
    kernels = _kernels(node.op, target)
    if result is None:
        gone = node.op not in COMPUTE_OPS
        why = "" if gone else "its result does not appear in ONNX Runtime's graph"
        return NodeProof(node.name, node.op, gone, "", why)
    maker = producers[result]
    if maker.op_type in _QUANTIZERS:
        before = producers.get(maker.input[0])
        left = before.op_type if before is not None else node.op
        why = f"ONNX Runtime left {left} in float between its quantizers"
        return NodeProof(node.name, node.op, False, left, why)
    maker = _behind_reshapes(maker, kernels, producers)
    if maker.op_type not in kernels or _reads_floats(maker, target, producers):
        why = f"ONNX Runtime runs it as {maker.op_type}"
        return NodeProof(node.name, node.op, False, maker.op_type, why)
    return NodeProof(node.name, node.op, True, maker.op_type)


def _kernels(op: str, target: Target) -> tuple[str, ...]:
    """The ops that prove an op integer; one that moves integers may be merged into another one."""
    rule = target.ops[op]
    if rule.same_parameters:
        movers = [r.kernels for r in target.ops.values() if r.same_parameters]
        return tuple(kernel for kernels in movers for kernel in kernels)
    return rule.kernels + rule.dynamic


def _reads_floats(
    maker: onnx.NodeProto, target: Target, producers: Mapping[str, onnx.NodeProto]
) -> bool:
    """Whether a kernel that has a float op's own name reads what a dequantizer gives."""
    before = producers.get(maker.input[0]) if maker.op_type in target.ops else None
    return before is not None and before.op_type == "DequantizeLinear"


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
