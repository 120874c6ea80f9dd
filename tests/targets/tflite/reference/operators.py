"""The operators that are compared with LiteRT, and how a random model of each is drawn."""

from collections.abc import Callable

from tests.targets.tflite.reference import (
    draw_movers,
    draw_operands,
    draw_pointwise,
    draw_products,
)
from tests.targets.tflite.reference.draw import Draw
from tests.targets.tflite.reference.one_op import OneOp

Make = Callable[[Draw], OneOp]

EXACT: dict[str, Make] = {
    "CONV_2D": draw_products.conv,
    "DEPTHWISE_CONV_2D": draw_products.depthwise,
    "TRANSPOSE_CONV": draw_products.transpose_conv,
    "FULLY_CONNECTED": draw_products.fully_connected,
    "BATCH_MATMUL": draw_products.batch_matmul,
    "BATCH_MATMUL, constant": draw_products.batch_matmul_constant,
    "ADD": draw_operands.add,
    "SUB": draw_operands.sub,
    "MUL": draw_operands.mul,
    "SQUARED_DIFFERENCE": draw_operands.squared_difference,
    "MINIMUM": draw_operands.minimum,
    "MAXIMUM": draw_operands.maximum,
    "comparisons": draw_operands.comparison,
    "SELECT_V2": draw_operands.select_v2,
    "MEAN": draw_operands.mean,
    "REDUCE_MAX": draw_operands.reduce_max,
    "REDUCE_MIN": draw_operands.reduce_min,
    "AVERAGE_POOL_2D": draw_operands.average_pool,
    "MAX_POOL_2D": draw_operands.max_pool,
    "ARG_MAX": draw_operands.arg_max,
    "ARG_MIN": draw_operands.arg_min,
    "TOPK_V2": draw_operands.top_k,
    "SOFTMAX": draw_operands.softmax,
    "LOG_SOFTMAX": draw_operands.log_softmax,
    "RESIZE_BILINEAR": draw_operands.bilinear,
    "RESIZE_NEAREST_NEIGHBOR": draw_operands.nearest,
    "RESHAPE": draw_movers.reshape,
    "TRANSPOSE": draw_movers.transpose,
    "SQUEEZE": draw_movers.squeeze,
    "EXPAND_DIMS": draw_movers.expand_dims,
    "TILE": draw_movers.tile,
    "BROADCAST_TO": draw_movers.broadcast_to,
    "CONCATENATION": draw_movers.concatenation,
    "PACK": draw_movers.pack,
    "UNPACK": draw_movers.unpack,
    "SPLIT": draw_movers.split,
    "SPLIT_V": draw_movers.split_v,
    "SLICE": draw_movers.slice_,
    "STRIDED_SLICE": draw_movers.strided_slice,
    "PAD": draw_movers.pad,
    "PADV2": draw_movers.pad_v2,
    "MIRROR_PAD": draw_movers.mirror_pad,
    "GATHER": draw_movers.gather,
    "GATHER_ND": draw_movers.gather_nd,
    "REVERSE_V2": draw_movers.reverse,
    "DEPTH_TO_SPACE": draw_movers.depth_to_space,
    "SPACE_TO_DEPTH": draw_movers.space_to_depth,
    "QUANTIZE": draw_pointwise.quantize,
    "QUANTIZE, float": draw_pointwise.quantize_float,
    "DEQUANTIZE": draw_pointwise.dequantize,
    "CAST": draw_pointwise.cast,
    "RELU": draw_pointwise.relu,
    "RELU6": draw_pointwise.relu6,
    "RELU_N1_TO_1": draw_pointwise.relu_n1_to_1,
    "RELU_0_TO_1": draw_pointwise.relu_0_to_1,
    "LEAKY_RELU": draw_pointwise.leaky_relu,
    "PRELU": draw_pointwise.prelu,
    "ABS": draw_pointwise.absolute,
    "NEG": draw_pointwise.negative,
    "LOGISTIC": draw_pointwise.logistic,
    "TANH": draw_pointwise.tanh,
    "HARD_SWISH": draw_pointwise.hard_swish,
    "EXP": draw_pointwise.exp,
    "LOG": draw_pointwise.log,
    "SQRT": draw_pointwise.sqrt,
    "RSQRT": draw_pointwise.rsqrt,
    "L2_NORMALIZATION": draw_pointwise.l2_normalization,
    "GELU": draw_pointwise.gelu,
}
"""Equal to LiteRT's reference kernels bit for bit, in 8 bits."""

EXACT_UNDER_XNNPACK: dict[str, Make] = {
    **EXACT,
    "SUM": draw_operands.reduce_sum,
    "ELU": draw_pointwise.elu,
}
"""Equal to LiteRT's default bit for bit. The reference kernels have no ELU and a wrong SUM."""

NOT_WIDE = {
    "SQUARED_DIFFERENCE": "refused",
    "ARG_MAX": "refused",
    "ARG_MIN": "refused",
    "RELU_N1_TO_1": "refused",
    "RELU_0_TO_1": "refused",
    "L2_NORMALIZATION": "refused",
    "LOG_SOFTMAX": "refused",
    "DEPTH_TO_SPACE": "refused",
    "SPACE_TO_DEPTH": "refused",
    "HARD_SWISH": "refused",
    "PRELU": "silently wrong",
    "EXP": "far off",
    "LOG": "far off",
    "SQRT": "not computed",
    "RSQRT": "far off",
    "GELU": "two steps off",
}
"""Operator -> what LiteRT makes of it in 16 bits."""

EXACT_WIDE: dict[str, Make] = {name: make for name, make in EXACT.items() if name not in NOT_WIDE}
"""Equal to the reference kernels bit for bit in 16 bits."""
