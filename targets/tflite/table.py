"""Which function writes which ONNX op: one literal table."""

from collections.abc import Callable, Mapping
from typing import Final

import onnx_ir as ir

from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.ops import (
    activation,
    convolution,
    elementwise,
    linear,
    pool,
    reduce,
)

Lowering = Callable[[Context, ir.Node], None]

LOWERINGS: Final[Mapping[str, Lowering]] = {
    # multiply and add
    "Conv": convolution.conv,
    "ConvTranspose": convolution.conv_transpose,
    "Gemm": linear.gemm,
    "MatMul": linear.matmul,
    # element by element
    "Add": elementwise.add,
    "Sub": elementwise.sub,
    "Mul": elementwise.mul,
    "Div": elementwise.div,
    "Max": elementwise.maximum,
    "Min": elementwise.minimum,
    "Relu": activation.clamp,
    "Clip": activation.clamp,
    # pooling and reducing
    "AveragePool": pool.average_pool,
    "GlobalAveragePool": pool.global_average_pool,
    "GlobalMaxPool": pool.global_max_pool,
    "MaxPool": pool.max_pool,
    "ReduceMax": reduce.reduce_max,
    "ReduceMean": reduce.reduce_mean,
    "ReduceMin": reduce.reduce_min,
    "ReduceSum": reduce.reduce_sum,
}
"""ONNX op -> the function that writes it. QuantizeLinear and DequantizeLinear are the form of the
graph and no ops: ``lower`` does them."""
