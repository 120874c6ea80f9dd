"""Gives every convolution and Gemm with a constant weight a bias."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.units import output_channel_axis

_NAME = "AddBias"


@dataclass
class AddBias(ir.passes.InPlacePass):
    """``Conv(x, W)`` becomes ``Conv(x, W, 0)``, likewise ConvTranspose and Gemm.

    A later pass can then correct the layer's mean without changing the graph, and runtimes whose
    kernels insist on a bias find one. It costs four bytes an output channel. The float function is
    kept to the bit. Layers whose weight is computed, and MatMul (it takes no bias), are left alone.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walk the nodes once."""
        modified = False
        for node in model.graph:
            channels = _missing(node)
            if channels:
                zeros = np.zeros(channels, np.float32)
                bias = g.make_initializer(model.graph, f"{node.name}_bias", zeros)
                if len(node.inputs) < 3:
                    node.resize_inputs(3)
                node.replace_input_with(2, bias)
                modified = True
        return ir.passes.PassResult(model, modified)


def _missing(node: ir.Node) -> int:
    """How many channels of bias a node lacks; 0 when it has one or cannot take one."""
    if node.domain or node.op_type not in {"Conv", "ConvTranspose", "Gemm"}:
        return 0
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    weight = node.inputs[1]
    shape = g.static_shape(weight)
    if has_bias or weight is None or g.constant(weight) is None or shape is None:
        return 0
    if weight.dtype != ir.DataType.FLOAT:
        return 0
    axis = output_channel_axis(node, len(shape))
    groups = g.attribute_int(node, "group", 1) if node.op_type == "ConvTranspose" else 1
    return 0 if axis is None else shape[axis] * groups
