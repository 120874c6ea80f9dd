"""Multiply-adds of a node, from its shapes."""

import math

import onnx_ir as ir

from qcompile.core.graph import attribute_int
from qcompile.core.units import COMPUTE_OPS


def macs(node: ir.Node) -> int:
    """Multiply-adds of one run of a Conv, ConvTranspose, Gemm or MatMul; 0 for any other op.

    Unknown dimensions (the batch) count as 1.
    """
    if node.op_type not in COMPUTE_OPS:
        return 0
    x, w = _dims(node.inputs[0]), _dims(node.inputs[1])
    y = _dims(node.outputs[0])
    if not x or not w or not y:
        return 0
    match node.op_type:
        case "Conv":
            return math.prod(y) * math.prod(w[1:])
        case "ConvTranspose":
            return math.prod(x) * math.prod(w[1:])
        case "Gemm":
            depth = x[0] if attribute_int(node, "transA", 0) else x[1]
            return math.prod(y) * depth
        case _:
            return math.prod(y) * x[-1]


def _dims(value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None:
        return ()
    return tuple(d if isinstance(d, int) else 1 for d in value.shape)
