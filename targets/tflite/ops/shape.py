"""Ops that change the shape: Reshape and its kin, Transpose, Expand, Tile."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.tflite import qdq
from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.layout import Perm, apply, identity, is_free
from qcompile.targets.tflite.operand import with_shape
from qcompile.targets.tflite.ops.forms import converted, reshape_into, transposed


def reshape(ctx: Context, node: ir.Node) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: RESHAPE of the elements as they are stored.

    1. Where the stored order is the logical one, up to axes of size 1, so is the output's.
    2. Where axes that are merged or split lie together, the output keeps the order of the rest:
       (1, C, H, W) stored channels-last becomes (1, C, H*W) stored (1, H*W, C).
    3. Otherwise the elements must be brought into logical order; that is left to the reader, which
       may know better (a constant matrix behind it can be reordered instead).
    """
    x = ctx.read(node, 0)
    shape = ctx.shape(node)
    order = regrouped(x.perm, x.shape, shape)
    if order is None:
        ctx.alias(node, ctx.merged(x, shape))
        return
    if apply(order, shape) == x.stored_shape and not _is_end(node):
        ctx.alias(node, with_shape(x, shape, order))
        return
    y = ctx.define(node, order)
    reshape_into(ctx, converted(ctx, x, y), y)


def transpose(ctx: Context, node: ir.Node) -> None:
    """Transpose: the same tensor, its axes counted in another order. Nothing is written."""
    x = ctx.read(node, 0)
    order = g.attribute_ints(node, "perm", tuple(reversed(range(x.rank))))
    ctx.alias(node, with_shape(x, ctx.shape(node), transposed(x.perm, order)))


def identity_op(ctx: Context, node: ir.Node) -> None:
    """Identity and an inference-time Dropout: another name of the same tensor."""
    ctx.alias(node, ctx.read(node, 0))


def expand(ctx: Context, node: ir.Node) -> None:
    """Expand as BROADCAST_TO, which lines shapes up from the last axis as ONNX does."""
    x = ctx.read(node, 0)
    shape = ctx.shape(node)
    lead = len(shape) - x.rank
    order = (*range(lead), *(axis + lead for axis in x.perm))
    if int(np.prod(shape)) == x.size:
        ctx.alias(node, ctx.reshaped(x, shape, order))
        return
    y = ctx.define(node, order)
    size = ctx.constant("shape", np.asarray(y.stored_shape, np.int32))
    inputs = [converted(ctx, x, y), size]
    ctx.emit("BROADCAST_TO", inputs, [y], Options("BroadcastToOptions", {}))


def tile(ctx: Context, node: ir.Node) -> None:
    """Tile by constant counts as TILE."""
    x = ctx.read(node, 0)
    counts = ctx.ints(node, 1)
    if counts is None:
        raise ctx.refuse(node, "its counts are computed as the model runs")
    if set(counts) <= {1}:
        ctx.alias(node, x)
        return
    y = ctx.define(node, x.perm)
    multiples = ctx.constant("multiples", np.asarray(apply(x.perm, counts), np.int32))
    ctx.emit("TILE", [converted(ctx, x, y), multiples], [y], Options("TileOptions", {}))


def regrouped(perm: Perm, before: Sequence[int], after: Sequence[int]) -> Perm | None:
    """How a reshaped value is stored when the stored elements stay where they are.

    Both shapes are cut into the shortest runs of axes that hold equally many elements. The stored
    elements may stay if each run of ``before`` lies together and in its order; the runs of
    ``after`` then take their places. None if one does not.
    """
    if is_free(perm, identity(len(before)), before):
        return identity(len(after))
    runs = _runs(before, after)
    if runs is None:
        return None
    long_axes = [axis for axis in perm if before[axis] != 1]
    order: list[int] = []
    place = 0
    while place < len(long_axes):
        run = next((r for r in runs if r[0][:1] == long_axes[place : place + 1]), None)
        if run is None or long_axes[place : place + len(run[0])] != run[0]:
            return None
        order += run[1]
        place += len(run[0])
    return _with_short_axes(order, after)


def _runs(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Runs of axes (those of size 1 left out) of both shapes with equally many elements."""
    old = [axis for axis, size in enumerate(before) if size != 1]
    new = [axis for axis, size in enumerate(after) if size != 1]
    runs: list[tuple[list[int], list[int]]] = []
    while old and new:
        left, right = [old.pop(0)], [new.pop(0)]
        have, want = before[left[0]], after[right[0]]
        while have != want:
            if have < want and old:
                left.append(old.pop(0))
                have *= before[left[-1]]
            elif have > want and new:
                right.append(new.pop(0))
                want *= after[right[-1]]
            else:
                return None
        runs.append((left, right))
    return None if old or new else runs


def _with_short_axes(order: list[int], shape: Sequence[int]) -> Perm:
    """Put the axes of size 1 behind their logical predecessors."""
    placed = list(order)
    for axis, size in enumerate(shape):
        if size == 1:
            placed.insert(placed.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(placed)


def _is_end(node: ir.Node) -> bool:
    """Whether the node's output, or its integers, are an output of the graph."""
    value = node.outputs[0]
    quantizer = qdq.quantizer(value)
    return value.is_graph_output() or (
        quantizer is not None and quantizer.outputs[0].is_graph_output()
    )
