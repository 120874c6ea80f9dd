"""Operators that take parts of tensors and put tensors side by side."""

import numpy as np
import onnx_ir as ir

from qcompile.targets.tflite.layout import identity
from qcompile.targets.tflite.reader.context import Context
from qcompile.targets.tflite.reading import Operator

_END = int(np.iinfo(np.int64).max)
"""An end behind every last element; its negative is one before every first."""


def concatenation(ctx: Context, op: Operator) -> None:
    """Concat, in the order in which the largest computed operand lies."""
    rank = len(ctx.result(op).shape)
    axis = ctx.axis(int(op.options.get("axis", 0)), rank)
    tensors = [ctx.operand(op, i) for i in range(len(op.inputs))]
    computed = [i for i, t in enumerate(tensors) if not t.is_constant]
    largest = max(computed, key=lambda i: tensors[i].size, default=None)
    perm = identity(rank) if largest is None else ctx.read(op, largest).perm
    values = [ctx.read(op, i, perm).value for i in range(len(tensors))]
    made = ctx.add("Concat", values, {"axis": perm.index(axis)})
    ctx.give(op, ctx.activated(op, made), perm)


def pack(ctx: Context, op: Operator) -> None:
    """Unsqueeze of each, and Concat."""
    rank = len(ctx.result(op).shape)
    axis = ctx.axis(int(op.options.get("axis", 0)), rank)
    axes = ctx.int64("axes", [axis])
    values = []
    for index in range(len(op.inputs)):
        x = ctx.read(op, index, identity(rank - 1))
        wider = ctx.add("Unsqueeze", [x.value, axes])
        values.append(ctx.quantizer.moved(ctx.operand(op, index), wider))
    ctx.give(op, ctx.add("Concat", values, {"axis": axis}), identity(rank))


def unpack(ctx: Context, op: Operator) -> None:
    """Split, and Squeeze of each part."""
    tensor = ctx.operand(op, 0)
    rank, count = len(tensor.shape), len(op.outputs)
    axis = ctx.axis(int(op.options.get("axis", 0)), rank)
    if tensor.shape[axis] != count:
        raise ctx.invalid(f"{count} outputs of an axis of {tensor.shape[axis]}")
    x = ctx.read(op, 0, identity(rank))
    parts = ctx.add_many("Split", [x.value], {"axis": axis, "num_outputs": count}, count)
    axes = ctx.int64("axes", [axis])
    for index, part in enumerate(parts):
        part = ctx.quantizer.moved(ctx.operand(op, 0), part)
        ctx.give(op, ctx.add("Squeeze", [part, axes]), identity(rank - 1), index)


def split(ctx: Context, op: Operator) -> None:
    """Split into equal parts; the axis is the first operand."""
    (axis,) = ctx.ints(op, 0)
    size = ctx.operand(op, 1).shape[ctx.axis(axis, len(ctx.operand(op, 1).shape))]
    if not op.outputs or size % len(op.outputs):
        raise ctx.invalid(f"{size} is no {len(op.outputs)} equal parts")
    _split(ctx, op, 1, axis, [size // len(op.outputs)] * len(op.outputs))


def split_v(ctx: Context, op: Operator) -> None:
    """Split into parts of given sizes, of which one may be -1: what is left."""
    sizes, (axis,) = list(ctx.ints(op, 1)), ctx.ints(op, 2)
    shape = ctx.operand(op, 0).shape
    length = shape[ctx.axis(axis, len(shape))]
    sizes = [length - sum(s for s in sizes if s >= 0) if size < 0 else size for size in sizes]
    if sum(sizes) != length or min(sizes) < 0 or len(sizes) != len(op.outputs):
        raise ctx.invalid(f"parts of {sizes} are not all of {length}")
    for index, size in zip(op.outputs, sizes, strict=True):
        at = ctx.axis(axis, len(shape))
        ctx.correct(index, (*shape[:at], size, *shape[at + 1 :]))
    _split(ctx, op, 0, axis, sizes)


def _split(ctx: Context, op: Operator, index: int, axis: int, sizes: list[int]) -> None:
    x = ctx.read(op, index)
    place = x.perm.index(ctx.axis(axis, len(x.perm)))
    inputs = [x.value, ctx.int64("split", sizes)]
    for number, part in enumerate(ctx.add_many("Split", inputs, {"axis": place}, len(sizes))):
        ctx.give(op, part, x.perm, number)


def slice_(ctx: Context, op: Operator) -> None:
    """Slice from ``begin`` on, ``size`` elements an axis."""
    x, shape = ctx.read(op, 0), ctx.result(op).shape
    begin = ctx.ints(op, 1)
    end = [b + n for b, n in zip(begin, shape, strict=True)]
    whole = [i for i, n in enumerate(ctx.operand(op, 0).shape) if begin[i] == 0 and shape[i] == n]
    axes = [i for i in range(len(shape)) if i not in whole]
    if not axes:
        ctx.give(op, ctx.add("Identity", [x.value]), x.perm)
        return
    lists = ([begin[i] for i in axes], [end[i] for i in axes], [x.perm.index(i) for i in axes])
    made = ctx.add("Slice", [x.value, *(ctx.int64("bounds", v) for v in lists)])
    ctx.give(op, made, x.perm)


def strided_slice(ctx: Context, op: Operator) -> None:
    """Slice; the masks say which bounds are left out, which axes go and which come.

    Bit i of a mask speaks of entry i of the bounds: begin or end left out, an axis of size 1 that
    is new, an axis of which one element is taken and which goes, an ellipsis for all between.
    """
    tensor = ctx.operand(op, 0)
    entries = list(zip(ctx.ints(op, 1), ctx.ints(op, 2), ctx.ints(op, 3), strict=True))
    masks = {
        name: int(op.options.get(f"{name}Mask", 0))
        for name in ("begin", "end", "ellipsis", "newAxis", "shrinkAxis")
    }
    rank, axis = len(tensor.shape), 0
    bounds: list[tuple[int, int, int, int]] = []
    gone, new, made_axes = [], [], 0
    for i, (first, last, step) in enumerate(entries):
        if masks["ellipsis"] >> i & 1:
            later = sum(not masks["newAxis"] >> j & 1 for j in range(i + 1, len(entries)))
            made_axes += rank - later - axis
            axis = rank - later
            continue
        if masks["newAxis"] >> i & 1:
            new.append(made_axes)
            made_axes += 1
            continue
        if step == 0:
            raise ctx.invalid("STRIDED_SLICE has a stride of 0")
        if masks["shrinkAxis"] >> i & 1:
            bounds.append((axis, first, first + 1 if first != -1 else _END, 1))
            gone.append(axis)
        else:
            bounds.append((axis, *_range(op, masks, i, (first, last, step))))
            made_axes += 1
        axis += 1
    _cut(ctx, op, [b for b in bounds if b[1:] != (0, _END, 1)], gone, new)


def _range(
    op: Operator, masks: dict[str, int], i: int, entry: tuple[int, int, int]
) -> tuple[int, int, int]:
    first, last, step = entry
    if op.options.get("offset", False):
        last += first
    if masks["begin"] >> i & 1:
        first = 0 if step > 0 else _END
    if masks["end"] >> i & 1:
        last = _END if step > 0 else -_END
    return first, last, step


def _cut(
    ctx: Context,
    op: Operator,
    bounds: list[tuple[int, int, int, int]],
    gone: list[int],
    new: list[int],
) -> None:
    sizes = list(ctx.operand(op, 0).shape)
    rank = len(sizes)
    for axis, start, end, step in bounds:
        at = ctx.axis(axis, rank)
        sizes[at] = len(range(*slice(start, end, step).indices(sizes[at])))
    left = [size for axis, size in enumerate(sizes) if axis not in gone]
    for axis in new:
        left.insert(axis, 1)
    ctx.correct(op.outputs[0], left)
    x = ctx.read(op, 0, identity(rank) if gone or new else None)
    value = x.value
    if bounds:
        axes, starts, ends, steps = zip(*bounds, strict=True)
        places = [x.perm.index(ctx.axis(a, rank)) for a in axes]
        lists = (starts, ends, places, steps)
        value = ctx.add("Slice", [value, *(ctx.int64("bounds", v) for v in lists)])
        if gone or new:
            value = ctx.quantizer.moved(ctx.operand(op, 0), value)
    if gone:
        value = ctx.add("Squeeze", [value, ctx.int64("axes", gone)])
        value = ctx.quantizer.moved(ctx.operand(op, 0), value) if new else value
    if new:
        value = ctx.add("Unsqueeze", [value, ctx.int64("axes", new)])
    if value is x.value:
        value = ctx.add("Identity", [value])
    ctx.give(op, value, x.perm if not (gone or new) else identity(rank - len(gone) + len(new)))


def gather(ctx: Context, op: Operator) -> None:
    """Gather; with axes that run together (``batchDims``), GatherND."""
    data, indices = ctx.operand(op, 0), ctx.operand(op, 1)
    rank, axis = len(data.shape), ctx.axis(int(op.options.get("axis", 0)), len(data.shape))
    batch = int(op.options.get("batchDims", 0))
    x = ctx.read(op, 0, identity(rank)).value
    at = ctx.read(op, 1, identity(len(indices.shape))).value
    order = identity(len(ctx.result(op).shape))
    if batch == 0:
        ctx.give(op, ctx.add("Gather", [x, at], {"axis": axis}), order)
        return
    if batch != axis:
        raise ctx.refuse(f"GATHER along axis {axis} with {batch} axes in front")
    at = ctx.add("Unsqueeze", [_int64(ctx, at), ctx.int64("axes", [-1])])
    ctx.give(op, ctx.add("GatherND", [x, at], {"batch_dims": batch}), order)


def gather_nd(ctx: Context, op: Operator) -> None:
    """GatherND."""
    x = ctx.read(op, 0, identity(len(ctx.operand(op, 0).shape))).value
    at = ctx.read(op, 1, identity(len(ctx.operand(op, 1).shape))).value
    data, indices = ctx.operand(op, 0).shape, ctx.operand(op, 1).shape
    shape = (*indices[:-1], *data[indices[-1] :])
    ctx.correct(op.outputs[0], shape)
    ctx.give(op, ctx.add("GatherND", [x, _int64(ctx, at)]), identity(len(shape)))


def embedding_lookup(ctx: Context, op: Operator) -> None:
    """Gather of rows; the indices are the first operand."""
    rows = ctx.read(op, 1, identity(len(ctx.operand(op, 1).shape))).value
    at = ctx.read(op, 0, identity(len(ctx.operand(op, 0).shape))).value
    shape = (*ctx.operand(op, 0).shape, *ctx.operand(op, 1).shape[1:])
    ctx.correct(op.outputs[0], shape)
    ctx.give(op, ctx.add("Gather", [rows, at], {"axis": 0}), identity(len(shape)))


def _int64(ctx: Context, value: ir.Value) -> ir.Value:
    return ctx.add("Cast", [value], {"to": int(ir.DataType.INT64)})


def resize_bilinear(ctx: Context, op: Operator) -> None:
    """Resize, linear."""
    _resize(ctx, op, {"mode": "linear"})


def resize_nearest_neighbor(ctx: Context, op: Operator) -> None:
    """Resize, nearest: positions are rounded down, aligned corners to the nearest, halves up."""
    if op.options.get("alignCorners", False) or op.options.get("halfPixelCenters", False):
        _resize(ctx, op, {"mode": "nearest", "nearest_mode": "round_prefer_ceil"})
    else:
        _resize(ctx, op, {"mode": "nearest", "nearest_mode": "floor"})


def _resize(ctx: Context, op: Operator, attributes: dict[str, object]) -> None:
    sizes = ctx.ints(op, 1)
    if len(sizes) != 2 or min(sizes) < 1 or 0 in ctx.operand(op, 0).shape:
        raise ctx.invalid(f"a picture {ctx.operand(op, 0).shape} is resized to {sizes}")
    if op.options.get("alignCorners", False):
        way = "align_corners"
    else:
        way = "half_pixel" if op.options.get("halfPixelCenters", False) else "asymmetric"
    first = (0, 3, 1, 2)
    inputs = [ctx.read(op, 0, first).value, None, None, ctx.int64("sizes", sizes)]
    told = {"coordinate_transformation_mode": way, "axes": (2, 3), **attributes}
    ctx.give(op, ctx.add("Resize", inputs, told), first)
