"""Which shape an operator's output must have: a wrong one loads, but leaves XNNPACK."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from qcompile.targets.tflite.reading import Tensor

Shape = tuple[int, ...]
_SAME: Final = 0
"""``Padding.SAME`` of the schema; VALID is 1."""


@dataclass(frozen=True, eq=False)
class Operands:
    """What a shape follows from: operands of an operator that are there, and its options."""

    inputs: tuple[Tensor | None, ...]
    options: Mapping[str, Any]

    def shape(self, index: int) -> Shape:
        """Shape of an input."""
        return self.tensor(index).shape

    def tensor(self, index: int) -> Tensor:
        """An input that must be there."""
        tensor = self.inputs[index] if index < len(self.inputs) else None
        if tensor is None:
            raise ValueError(f"input {index} is missing")
        return tensor

    def constant(self, index: int) -> np.ndarray:
        """Elements of a constant input."""
        tensor = self.tensor(index)
        if not tensor.is_constant:
            raise ValueError(f"input {index} is no constant")
        return tensor.array.reshape(-1)


def _input(ops: Operands) -> Shape:
    return ops.shape(0)


def _broadcast(ops: Operands) -> Shape:
    return tuple(np.broadcast_shapes(*(t.shape for t in ops.inputs if t is not None)))


def _told(ops: Operands) -> Shape:
    """The shape stands in the file: first operand of TRANSPOSE_CONV, second of BROADCAST_TO."""
    return tuple(map(int, ops.constant(0 if len(ops.inputs) > 2 else 1)))


def _windows(ops: Operands, size: Shape, kernel: Shape, dilation: Shape) -> Shape:
    strides = (ops.options["strideH"], ops.options["strideW"])
    found = []
    for length, k, stride, d in zip(size, kernel, strides, dilation, strict=True):
        covered = (k - 1) * d + 1
        free = length if ops.options["padding"] == _SAME else length - covered + 1
        found.append(-(-free // stride))
    return tuple(found)


def _conv(ops: Operands) -> Shape:
    n, *size, channels = ops.shape(0)
    out, *kernel, per_group = ops.shape(1)
    if channels % per_group:
        raise ValueError(f"{channels} channels are no groups of {per_group}")
    dilation = (ops.options["dilationHFactor"], ops.options["dilationWFactor"])
    return (n, *_windows(ops, tuple(size), tuple(kernel), dilation), out)


def _depthwise(ops: Operands) -> Shape:
    n, *size, channels = ops.shape(0)
    one, *kernel, out = ops.shape(1)
    if one != 1 or out != channels * ops.options["depthMultiplier"]:
        times = ops.options["depthMultiplier"]
        raise ValueError(
            f"weights of shape {ops.shape(1)} for {channels} channels, {times} times each"
        )
    dilation = (ops.options["dilationHFactor"], ops.options["dilationWFactor"])
    return (n, *_windows(ops, tuple(size), tuple(kernel), dilation), out)


def _pool(ops: Operands) -> Shape:
    n, *size, channels = ops.shape(0)
    kernel = (ops.options["filterHeight"], ops.options["filterWidth"])
    return (n, *_windows(ops, tuple(size), kernel, (1, 1)), channels)


def _fully_connected(ops: Operands) -> Shape:
    out, depth = ops.shape(1)
    if ops.tensor(0).size % depth:
        raise ValueError(f"{ops.tensor(0).size} elements are no rows of {depth}")
    if ops.options["keepNumDims"]:
        return (*ops.shape(0)[:-1], out)
    return (ops.tensor(0).size // depth, out)


def _batch_matmul(ops: Operands) -> Shape:
    a, b = ops.shape(0), ops.shape(1)
    a = (*a[:-2], a[-1], a[-2]) if ops.options["adjX"] else a
    b = (*b[:-2], b[-1], b[-2]) if ops.options["adjY"] else b
    if a[-1] != b[-2]:
        raise ValueError(f"rows of {a[-1]} and columns of {b[-2]}")
    return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])


def _reduced(ops: Operands) -> Shape:
    shape = ops.shape(0)
    gone = {int(axis) % len(shape) for axis in ops.constant(1)}
    if ops.options.get("keepDims"):
        return tuple(1 if i in gone else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in gone)


def _concatenation(ops: Operands) -> Shape:
    shapes = [t.shape for t in ops.inputs if t is not None]
    axis = ops.options["axis"] % len(shapes[0])
    rest = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
    if len(rest) != 1:
        raise ValueError(f"shapes {shapes} differ beside axis {axis}")
    return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])


def _slice(ops: Operands) -> Shape:
    begin, size = map(int, ops.constant(1)), map(int, ops.constant(2))
    found = []
    for length, start, count in zip(ops.shape(0), begin, size, strict=True):
        taken = length - start if count == -1 else count
        if not 0 <= start <= start + taken <= length:
            raise ValueError(f"{taken} from {start} of {length}")
        found.append(taken)
    return tuple(found)


def _split(ops: Operands) -> Shape:
    shape = list(ops.shape(1))
    axis, parts = int(ops.constant(0)[0]) % len(shape), ops.options["numSplits"]
    if shape[axis] % parts:
        raise ValueError(f"{shape[axis]} is no {parts} equal parts")
    shape[axis] //= parts
    return tuple(shape)


def _transpose(ops: Operands) -> Shape:
    order = [int(axis) for axis in ops.constant(1)]
    if sorted(order) != list(range(len(ops.shape(0)))):
        raise ValueError(f"{order} is no order of {len(ops.shape(0))} axes")
    return tuple(ops.shape(0)[axis] for axis in order)


def _gather(ops: Operands) -> Shape:
    shape, indices = ops.shape(0), ops.shape(1)
    axis, batch = ops.options["axis"] % len(shape), ops.options["batchDims"]
    return (*shape[:axis], *indices[batch:], *shape[axis + 1 :])


def _embedding_lookup(ops: Operands) -> Shape:
    return (*ops.shape(0), *ops.shape(1)[1:])


def _tile(ops: Operands) -> Shape:
    return tuple(a * int(b) for a, b in zip(ops.shape(0), ops.constant(1), strict=True))


def _pad(ops: Operands) -> Shape:
    pads = ops.constant(1).reshape(-1, 2)
    return tuple(n + int(a) + int(b) for n, (a, b) in zip(ops.shape(0), pads, strict=True))


def _depth_to_space(ops: Operands) -> Shape:
    n, h, w, c = ops.shape(0)
    block = ops.options["blockSize"]
    return (n, h * block, w * block, c // (block * block))


def _space_to_depth(ops: Operands) -> Shape:
    n, h, w, c = ops.shape(0)
    block = ops.options["blockSize"]
    return (n, h // block, w // block, c * block * block)


def _resize(ops: Operands) -> Shape:
    n, _, _, c = ops.shape(0)
    h, w = map(int, ops.constant(1))
    return (n, h, w, c)


def _reshape(ops: Operands) -> Shape:
    wanted = ops.constant(1) if len(ops.inputs) > 1 else np.asarray(ops.options["newShape"])
    shape = [int(n) for n in wanted.reshape(-1)]
    if -1 in shape:
        known = int(np.prod([n for n in shape if n != -1], dtype=np.int64))
        shape[shape.index(-1)] = ops.tensor(0).size // max(known, 1)
    if int(np.prod(shape, dtype=np.int64)) != ops.tensor(0).size:
        raise ValueError(f"{ops.tensor(0).size} elements as {tuple(shape)}")
    return tuple(shape)


def _squeeze(ops: Operands) -> Shape:
    shape, given = ops.shape(0), ops.options.get("squeezeDims")
    axes = [] if given is None else [int(a) % len(shape) for a in given]
    gone = axes or [i for i, n in enumerate(shape) if n == 1]
    if any(shape[axis] != 1 for axis in gone):
        raise ValueError(f"axes {gone} of {shape} are not all 1")
    return tuple(n for i, n in enumerate(shape) if i not in gone)


def _expand_dims(ops: Operands) -> Shape:
    shape = list(ops.shape(0))
    axis = int(ops.constant(1)[0])
    shape.insert(axis % (len(shape) + 1), 1)
    return tuple(shape)


def _pack(ops: Operands) -> Shape:
    shapes = [t.shape for t in ops.inputs if t is not None]
    if len(set(shapes)) != 1:
        raise ValueError(f"shapes {shapes} differ")
    axis = ops.options["axis"] % (len(shapes[0]) + 1)
    return (*shapes[0][:axis], len(shapes), *shapes[0][axis:])


def _unpack(ops: Operands) -> Shape:
    shape = ops.shape(0)
    axis = ops.options["axis"] % len(shape)
    return (*shape[:axis], *shape[axis + 1 :])


def _top_k(ops: Operands) -> Shape:
    return (*ops.shape(0)[:-1], int(ops.constant(1)[0]))


SHAPES: Final[Mapping[str, Callable[[Operands], Shape]]] = {
    "input": _input,
    "broadcast": _broadcast,
    "told": _told,
    "conv": _conv,
    "depthwise": _depthwise,
    "pool": _pool,
    "fully_connected": _fully_connected,
    "batch_matmul": _batch_matmul,
    "reduced": _reduced,
    "concatenation": _concatenation,
    "slice": _slice,
    "split": _split,
    "transpose": _transpose,
    "gather": _gather,
    "embedding_lookup": _embedding_lookup,
    "tile": _tile,
    "pad": _pad,
    "depth_to_space": _depth_to_space,
    "space_to_depth": _space_to_depth,
    "resize": _resize,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "expand_dims": _expand_dims,
    "pack": _pack,
    "unpack": _unpack,
    "top_k": _top_k,
}
"""Word in the operator table -> shape of every output; a ValueError says why there is none."""
