"""Whether a file works for any number of samples at once: its first dimension may then stay open.

Files say so of their inputs (``shape_signature``), and hold 1 there. Where every operator treats
each sample by itself, what the file computes for one it computes for many.
"""

from collections.abc import Callable, Mapping
from typing import Final

from qcompile.targets.tflite.reader.context import Context
from qcompile.targets.tflite.reading import Operator


def opens_batch(ctx: Context, index: int) -> bool:
    """Whether an input says that its first dimension, and no other, is the caller's choice."""
    tensor = ctx.tensors[index]
    told = tensor.signature
    return (
        len(told) == len(tensor.shape) > 0
        and told[0] == -1
        and tensor.shape[0] == 1
        and -1 not in told[1:]
    )


def keeps_batch(ctx: Context, op: Operator) -> bool:
    """Whether an operator that reads an open batch treats its samples one by one."""
    rule = RULES.get(op.name)
    shapes = [ctx.result(op, i).shape for i in range(len(op.outputs))]
    return rule is not None and all(s and s[0] == 1 for s in shapes) and rule(ctx, op)


def _always(ctx: Context, op: Operator) -> bool:
    return True


def _aligned(ctx: Context, op: Operator) -> bool:
    """Operands of an open batch have all axes of the result, so that the first is the batch."""
    rank = len(ctx.result(op).shape)
    return all(len(ctx.tensors[i].shape) == rank for i in op.inputs if i in ctx.dynamic)


def _matrices(ctx: Context, op: Operator) -> bool:
    """A matrix or more a sample."""
    return len(ctx.result(op).shape) > 2 and _aligned(ctx, op)


def _beside_first(ctx: Context, op: Operator) -> bool:
    rank = len(ctx.operand(op, 0).shape)
    return all(axis % max(rank, 1) != 0 for axis in ctx.ints(op, 1))


def _first_stays(ctx: Context, op: Operator) -> bool:
    return ctx.ints(op, 1)[0] == 0


def _unpadded(ctx: Context, op: Operator) -> bool:
    return ctx.ints(op, 1)[:2] == (0, 0)


def _joined(ctx: Context, op: Operator) -> bool:
    rank = len(ctx.result(op).shape)
    every = all(index in ctx.dynamic for index in op.inputs)
    return every and int(op.options.get("axis", 0)) % max(rank, 1) != 0


def _split(ctx: Context, op: Operator) -> bool:
    axis = ctx.ints(op, 0 if op.name == "SPLIT" else 2)[0]
    return axis % max(len(ctx.result(op).shape), 1) != 0


def _rows(ctx: Context, op: Operator) -> bool:
    """A row a sample: not rows of a sample's own, which would be counted with the samples."""
    return ctx.dynamic.isdisjoint(op.inputs[1:])


def _from_sample(ctx: Context, op: Operator) -> bool:
    return op.inputs[0] in ctx.dynamic


def _looked_up(ctx: Context, op: Operator) -> bool:
    """Rows of a table that all samples share."""
    axis, batch = (int(op.options.get(name, 0)) for name in ("axis", "batchDims"))
    return op.inputs[0] not in ctx.dynamic and axis == 0 and batch == 0


def _whole_first(ctx: Context, op: Operator) -> bool:
    begin, size = ctx.ints(op, 1), ctx.ints(op, 2)
    return begin[0] == 0 and size[0] in (1, -1)


RULES: Final[Mapping[str, Callable[[Context, Operator], bool]]] = {
    "CONV_2D": _always,
    "DEPTHWISE_CONV_2D": _always,
    "TRANSPOSE_CONV": _always,
    "FULLY_CONNECTED": _rows,
    "BATCH_MATMUL": _matrices,
    "AVERAGE_POOL_2D": _always,
    "MAX_POOL_2D": _always,
    "RESHAPE": _from_sample,
    "SQUEEZE": _from_sample,
    "EXPAND_DIMS": _from_sample,
    "TRANSPOSE": _first_stays,
    "PAD": _unpadded,
    "PADV2": _unpadded,
    "MIRROR_PAD": _unpadded,
    "CONCATENATION": _joined,
    "SPLIT": _split,
    "SPLIT_V": _split,
    "SLICE": _whole_first,
    "GATHER": _looked_up,
    "MEAN": _beside_first,
    "SUM": _beside_first,
    "REDUCE_MAX": _beside_first,
    "REDUCE_MIN": _beside_first,
    "ARG_MAX": _beside_first,
    "ARG_MIN": _beside_first,
    "RESIZE_BILINEAR": _always,
    "RESIZE_NEAREST_NEIGHBOR": _always,
    "DEPTH_TO_SPACE": _always,
    "SPACE_TO_DEPTH": _always,
    "QUANTIZE": _always,
    "DEQUANTIZE": _always,
    "CAST": _always,
    "ADD": _aligned,
    "SUB": _aligned,
    "MUL": _aligned,
    "DIV": _aligned,
    "MAXIMUM": _aligned,
    "MINIMUM": _aligned,
    "SQUARED_DIFFERENCE": _aligned,
    "POW": _aligned,
    "PRELU": _aligned,
    "GREATER": _aligned,
    "GREATER_EQUAL": _aligned,
    "LESS": _aligned,
    "LESS_EQUAL": _aligned,
    "EQUAL": _aligned,
    "NOT_EQUAL": _aligned,
    "LOGICAL_AND": _aligned,
    "LOGICAL_OR": _aligned,
    "LOGICAL_NOT": _always,
    "SELECT_V2": _aligned,
    "NEG": _always,
    "ABS": _always,
    "SQUARE": _always,
    "FLOOR": _always,
    "CEIL": _always,
    "ROUND": _always,
    "SIN": _always,
    "COS": _always,
    "SIGN": _always,
    "EXP": _always,
    "LOG": _always,
    "SQRT": _always,
    "RSQRT": _always,
    "RELU": _always,
    "RELU6": _always,
    "RELU_N1_TO_1": _always,
    "RELU_0_TO_1": _always,
    "LEAKY_RELU": _always,
    "ELU": _always,
    "GELU": _always,
    "HARD_SWISH": _always,
    "LOGISTIC": _always,
    "TANH": _always,
    "SOFTMAX": _aligned,
    "LOG_SOFTMAX": _aligned,
    "L2_NORMALIZATION": _aligned,
}
"""Operator -> whether this one of it does; an operator that is not here fixes the batch to 1."""
