"""Which function writes which ONNX op: one literal table."""

from collections.abc import Callable, Mapping
from typing import Final

import onnx_ir as ir

from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.ops import (
    activation,
    compare,
    composed,
    convolution,
    elementwise,
    linear,
    nonlinear,
    pool,
    powers,
    reduce,
    resize,
    shape,
    slicing,
    tabled,
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
    "Div": powers.div,
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
    # functions of one element, and of a row
    "Abs": nonlinear.abs_,
    "Ceil": tabled.ceil,
    "Cos": tabled.cos,
    "Elu": tabled.elu,
    "Erf": tabled.erf,
    "Exp": nonlinear.exp,
    "Floor": tabled.floor,
    "Gelu": nonlinear.gelu,
    "HardSigmoid": tabled.hard_sigmoid,
    "HardSwish": nonlinear.hard_swish,
    "LeakyRelu": nonlinear.leaky_relu,
    "Log": tabled.log,
    "LogSoftmax": nonlinear.log_softmax,
    "Mish": tabled.mish,
    "Neg": nonlinear.neg,
    "PRelu": nonlinear.prelu,
    "Pow": powers.pow_,
    "Reciprocal": tabled.reciprocal,
    "Round": tabled.round_,
    "Selu": tabled.selu,
    "Sigmoid": nonlinear.sigmoid,
    "Sign": tabled.sign,
    "Sin": tabled.sin,
    "Softmax": nonlinear.softmax,
    "Softplus": tabled.softplus,
    "Softsign": tabled.softsign,
    "Sqrt": tabled.sqrt,
    "Tanh": nonlinear.tanh,
    # normalizations
    "BatchNormalization": composed.batch_normalization,
    "GroupNormalization": composed.group_normalization,
    "InstanceNormalization": composed.instance_normalization,
    "LayerNormalization": composed.layer_normalization,
    "LpNormalization": composed.lp_normalization,
    "RMSNormalization": composed.rms_normalization,
    "ReduceL2": composed.reduce_l2,
    "SimplifiedLayerNormalization": composed.rms_normalization,
    # comparing and choosing
    "And": compare.and_,
    "ArgMax": compare.arg_max,
    "ArgMin": compare.arg_min,
    "Cast": compare.cast,
    "Equal": compare.equal,
    "Greater": compare.greater,
    "GreaterOrEqual": compare.greater_or_equal,
    "Less": compare.less,
    "LessOrEqual": compare.less_or_equal,
    "Not": compare.not_,
    "Or": compare.or_,
    "TopK": compare.top_k,
    "Where": compare.where,
    # moving
    "Concat": slicing.concat,
    "DepthToSpace": resize.depth_to_space,
    "Expand": shape.expand,
    "Flatten": shape.reshape,
    "Gather": slicing.gather,
    "Identity": shape.identity_op,
    "Pad": slicing.pad,
    "Reshape": shape.reshape,
    "Resize": resize.resize,
    "Slice": slicing.slice_,
    "SpaceToDepth": resize.space_to_depth,
    "Split": slicing.split,
    "Squeeze": shape.reshape,
    "Tile": shape.tile,
    "Transpose": shape.transpose,
    "Unsqueeze": shape.reshape,
}
"""ONNX op -> the function that writes it. QuantizeLinear and DequantizeLinear are the form of the
graph and no ops: ``lower`` does them."""
