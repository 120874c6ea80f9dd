"""The integer proof for QNN: what a QDQ file asks for, which QNN runs as integers or leaves.

QNN keeps no graph to look into. A node is integer in the file when it reads dequantized integers
and its result is quantized; whether QNN takes it says the report's list of what leaves the target.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import onnx

from qcompile.core.proof import NodeProof, Planned, Proof
from qcompile.core.target import Target
from qcompile.core.units import COMPUTE_OPS

_QUANTIZERS: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})

Makers = Mapping[str, onnx.NodeProto]


def prove(artefact: bytes | Path, planned: Sequence[Planned], target: Target) -> Proof:
    """Look up every planned node in the file.

    Args:
        artefact: the finished model, its bytes or its path.
        planned: the nodes to look up.
        target: its operator table says which inputs are activations.
    """
    raw = artefact if isinstance(artefact, bytes) else artefact.read_bytes()
    graph = onnx.load_from_string(raw).graph
    makers = {output: node for node in graph.node for output in node.output}
    given = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    proofs = tuple(_prove_node(node, makers, given, target) for node in planned)
    ops = Counter(node.op_type for node in graph.node if node.op_type not in _QUANTIZERS)
    return Proof(proofs, dict(sorted(ops.items())), "the QDQ file")


def _prove_node(
    node: Planned, makers: Makers, given: Mapping[str, int], target: Target
) -> NodeProof:
    result = next((name for name in (*node.results, node.own) if name in makers), None)
    if result is None:
        gone = node.op not in COMPUTE_OPS
        why = "" if gone else "its result does not appear in the file"
        return NodeProof(node.name, node.op, gone, "", why)
    maker = _behind_quantizers(result, makers)
    if maker is None:  # a quantized input that nothing computes
        return NodeProof(node.name, node.op, True, "")
    quantized = makers[result].op_type in _QUANTIZERS
    rule = target.rule(maker.op_type)
    if rule is None:
        return NodeProof(node.name, node.op, False, maker.op_type, target.why_float(maker.op_type))
    if not quantized and not rule.float_output:
        why = "its result is not quantized"
        return NodeProof(node.name, node.op, False, maker.op_type, why)
    floats = [
        name
        for index, name in enumerate(maker.input)
        if name and rule.role(index) != "other" and _is_float(name, makers, given)
    ]
    why = f"it reads the floats of {floats[0]}" if floats else ""
    return NodeProof(node.name, node.op, not floats, maker.op_type, why)


def _behind_quantizers(result: str, makers: Makers) -> onnx.NodeProto | None:
    maker = makers.get(result)
    while maker is not None and maker.op_type in _QUANTIZERS:
        maker = makers.get(maker.input[0])
    return maker


def _is_float(name: str, makers: Makers, given: Mapping[str, int]) -> bool:
    maker = makers.get(name)
    if maker is None:
        return given.get(name) == onnx.TensorProto.FLOAT
    return maker.op_type != "DequantizeLinear"
