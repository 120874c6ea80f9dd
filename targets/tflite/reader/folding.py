"""Shape arithmetic that can be done as the file is read: SHAPE and what computes with it."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Final

import numpy as np

from qcompile.targets.tflite.reader.context import Context
from qcompile.targets.tflite.reading import Operator, Tensor
from qcompile.targets.tflite.reference import call
from qcompile.targets.tflite.reference.table import KERNELS

MOST: Final = 4096
"""Elements up to which a constant is taken for shape arithmetic."""
_ARITHMETIC: Final[Mapping[str, np.ufunc]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "FLOOR_DIV": np.floor_divide,
    "FLOOR_MOD": np.mod,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
}
"""Operators whose kernels of the reference have a scale."""
_TYPES: Final = frozenset({"bool", "int32", "int64"})


def fold(ctx: Context, op: Operator) -> bool:
    """Let an operator's outputs be constants, if they follow from the file.

    SHAPE of what has a known shape, and every operator on small integer constants, by the numpy
    reference of the runtime's kernels. True when it did so.
    """
    if op.name == "SHAPE":
        array = np.asarray(ctx.operand(op, 0).shape)
        _keep(ctx, op.outputs[0], array.astype(ctx.result(op).dtype))
        ctx.counted.update(op.outputs if op.inputs[0] in ctx.dynamic else ())
        return True
    if op.name == "FILL" and ctx.operand(op, 0).is_constant:
        ctx.correct(op.outputs[0], ctx.ints(op, 0))
    tensors = [ctx.tensors[i] if i >= 0 else None for i in op.inputs]
    if not tensors or not all(_is_small(t) for t in tensors if t is not None):
        return False
    results = [ctx.result(op, i) for i in range(len(op.outputs))]
    if any(t.dtype not in _TYPES or t.size > MOST for t in results):
        return False
    made = _computed(op, tensors, results)
    if made is None:
        return False
    for index, array in zip(op.outputs, made, strict=True):
        _keep(ctx, index, np.asarray(array).astype(ctx.tensors[index].dtype))
    ctx.counted.update(op.outputs if not ctx.counted.isdisjoint(op.inputs) else ())
    return True


def _computed(
    op: Operator, tensors: Sequence[Tensor | None], results: Sequence[Tensor]
) -> Sequence[np.ndarray] | None:
    if op.name in _ARITHMETIC:
        x, y = (t.array for t in tensors if t is not None)
        return [np.asarray(_ARITHMETIC[op.name](x, y))]
    if op.name == "REDUCE_PROD":
        x, axes = (t.array for t in tensors if t is not None)
        keep = bool(op.options.get("keepDims", False))
        return [x.prod(axis=tuple(axes.reshape(-1).tolist()), keepdims=keep)]
    kernel = KERNELS.get(op.name)
    if kernel is None:
        return None
    return kernel(
        call.Call(
            op.name,
            SimpleNamespace(**op.options),
            tuple(None if t is None else _plain(t) for t in tensors),
            tuple(_plain(t) for t in results),
            tuple(None if t is None else t.array for t in tensors),
            "reference",
        )
    )


def _is_small(tensor: Tensor) -> bool:
    return tensor.is_constant and tensor.dtype in _TYPES and tensor.size <= MOST


def _plain(tensor: Tensor) -> call.Tensor:
    return call.Tensor(tensor.name, tensor.shape, tensor.dtype)


def _keep(ctx: Context, index: int, array: np.ndarray) -> None:
    old = ctx.tensors[index]
    raw = np.frombuffer(array.tobytes(), np.uint8)
    ctx.tensors[index] = Tensor(index, old.name, array.shape, str(array.dtype), None, raw)
