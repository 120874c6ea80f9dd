"""What must hold of a TFLite graph before anything follows its indices: nothing is trusted."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.reading import BITS, Graph, Operator, Tensor

SCHEMA_VERSION: Final = 3
LARGEST: Final = 1 << 31
"""Elements of a tensor from which no runtime takes it."""
_ZERO_POINTS: Final = {
    "int4": (-8, 7),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
}


def check_graph(graph: Graph) -> None:
    """Hold a graph to what every reader of it takes for granted.

    Indices are those of tensors, operators stand in an order in which they can run, each tensor is
    made once, and the bytes of a constant are the product of its dimensions.

    Raises:
        QCompileError: MODEL_INVALID, MODEL_CYCLIC; IMPORT_FAILED for tensors of kinds that are no
            damage but have no form in ONNX.
    """
    if graph.version != SCHEMA_VERSION:
        raise _invalid(f"its schema has version {graph.version}, not {SCHEMA_VERSION}")
    _check_ends(graph)
    for tensor in graph.tensors:
        _check_size(tensor)
    _check_order(graph)
    for tensor in graph.tensors:
        _check_quantization(tensor)


def label(graph: Graph, operator: Operator) -> str:
    """What an operator is called, which has no name: as its first output."""
    first = graph.tensor(operator.outputs[0]) if operator.outputs else None
    return first.name if first is not None and first.name else f"operator {operator.index}"


def _check_ends(graph: Graph) -> None:
    count = len(graph.tensors)
    for kind, ends in (("input", graph.inputs), ("output", graph.outputs)):
        for index in ends:
            if not 0 <= index < count:
                raise _invalid(f"an {kind} of it is tensor {index} of {count}")
    if not graph.outputs:
        raise _invalid("it has no output")
    if len(set(graph.inputs)) != len(graph.inputs):
        raise _invalid("two of its inputs are one tensor")


def _check_size(tensor: Tensor) -> None:
    told = f"tensor {tensor.name or tensor.index}"
    if any(size < 0 for size in tensor.shape):
        raise _invalid(f"{told} has the shape {tensor.shape}")
    size = math.prod(tensor.shape)
    if size >= LARGEST:
        raise _invalid(f"{told} of shape {tensor.shape} has {size} elements")
    if not tensor.is_constant:
        return
    if tensor.is_sparse:
        raise QCompileError(
            Code.IMPORT_FAILED, f"{told} is stored without its zeros, which has no form in ONNX"
        )
    if tensor.dtype not in BITS:
        raise QCompileError(Code.IMPORT_FAILED, f"{told} is a constant of type {tensor.dtype}")
    assert tensor.raw is not None
    wanted = -(-size * BITS[tensor.dtype] // 8)
    if tensor.raw.size != wanted:
        raise _invalid(f"{told} has {tensor.raw.size} bytes, its shape and type take {wanted}")


def _check_order(graph: Graph) -> None:
    makers = {index: op for op in graph.operators for index in op.outputs}
    ready = set(graph.inputs) | {t.index for t in graph.tensors if t.is_constant or t.is_variable}
    for op in graph.operators:
        node = label(graph, op)
        for index in _operands(graph, op):
            if index in ready:
                continue
            if index in makers:
                raise QCompileError(
                    Code.MODEL_CYCLIC,
                    f"{op.name} reads what only itself or a later operator makes",
                    node=node,
                )
            raise _invalid(f"{op.name} reads tensor {index}, which nothing makes", node)
        for index in op.outputs:
            if index in ready:
                raise _invalid(f"{op.name} writes tensor {index}, which is there already", node)
            ready.add(index)
    missing = [index for index in graph.outputs if index not in ready]
    if missing:
        raise _invalid(f"nothing makes its output, tensor {missing[0]}")


def _operands(graph: Graph, op: Operator) -> Iterator[int]:
    count = len(graph.tensors)
    if not op.outputs:
        raise _invalid(f"{op.name} has no output", label(graph, op))
    for index in op.outputs:
        if not 0 <= index < count:
            raise _invalid(f"{op.name} writes tensor {index} of {count}", label(graph, op))
    for index in op.inputs:
        if not -1 <= index < count:
            raise _invalid(f"{op.name} reads tensor {index} of {count}", label(graph, op))
        if index >= 0:
            yield index


def _check_quantization(tensor: Tensor) -> None:
    q = tensor.quantization
    if q is None:
        return
    told = f"tensor {tensor.name or tensor.index}"
    if tensor.is_blockwise:
        raise QCompileError(
            Code.IMPORT_FAILED, f"{told} has scales for blocks, which are not read yet"
        )
    if not np.all(np.isfinite(q.scale)) or np.any(q.scale < 0):
        raise _invalid(f"{told} has a scale that is no positive number")
    if q.scale.size > 1:
        axis, rank = q.axis, len(tensor.shape)
        if not 0 <= axis < rank or tensor.shape[axis] != q.scale.size:
            raise _invalid(
                f"{told} of shape {tensor.shape} has {q.scale.size} scales along axis {axis}"
            )
    if q.zero_point.size not in (0, 1, q.scale.size):
        raise _invalid(f"{told} has {q.zero_point.size} zero points for {q.scale.size} scales")
    low, high = _ZERO_POINTS.get(tensor.dtype, (-LARGEST, LARGEST))
    if np.any((q.zero_point < low) | (q.zero_point > high)):
        raise _invalid(f"{told} of {tensor.dtype} has a zero point outside its type")


def _invalid(what: str, node: str | None = None) -> QCompileError:
    return QCompileError(Code.MODEL_INVALID, f"the TFLite model is not valid: {what}", node=node)
