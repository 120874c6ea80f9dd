"""Operators that change the shape, and those that repeat elements."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qcompile.targets.tflite.layout import Perm, apply, identity, inverse
from qcompile.targets.tflite.ops.shape import regrouped
from qcompile.targets.tflite.reader.context import Context
from qcompile.targets.tflite.reading import Operator


def reshape(ctx: Context, op: Operator) -> None:
    """Reshape, also of RESHAPE's kin that drop or add axes of size 1.

    Where the elements may stay as they lie, they do, and the result has the order of axes that
    follows; else they are brought into TFLite's order first.
    """
    tensor, shape = ctx.operand(op, 0), ctx.result(op).shape
    if tensor.size != int(np.prod(shape, dtype=np.int64)):
        raise ctx.invalid(f"{op.name} makes {shape} of {tensor.shape}")
    x = ctx.read(op, 0)
    order = regrouped(x.perm, tensor.shape, shape)
    if order is None or (op.inputs[0] in ctx.dynamic and order[:1] != (0,)):
        x, order = ctx.read(op, 0, identity(len(tensor.shape))), identity(len(shape))
    ctx.give(op, reshaped(ctx, op, x.value, apply(order, shape)), order)


def reshaped(ctx: Context, op: Operator, value: ir.Value, shape: Sequence[int]) -> ir.Value:
    """A value of an operator's output in another shape; an open batch stays in front."""
    sizes = list(shape)
    if op.outputs[0] in ctx.dynamic:
        sizes[0] = -1
    return ctx.add("Reshape", [value, ctx.int64("shape", sizes)])


def transpose(ctx: Context, op: Operator) -> None:
    """The same value, its axes counted in another order. Nothing is written."""
    order = tuple(ctx.axis(a, len(ctx.operand(op, 0).shape)) for a in ctx.ints(op, 1))
    if sorted(order) != list(range(len(order))) or len(order) != len(ctx.result(op).shape):
        raise ctx.invalid(f"{order} is no order of axes")
    places = inverse(order)
    have = ctx.read(op, 0).perm
    ctx.alias(op, tuple(places[axis] for axis in have))


def broadcast_to(ctx: Context, op: Operator) -> None:
    """Expand."""
    shape = ctx.result(op).shape
    x = ctx.read(op, 0, identity(len(ctx.operand(op, 0).shape)))
    ctx.give(op, ctx.add("Expand", [x.value, ctx.int64("shape", shape)]), identity(len(shape)))


def tile(ctx: Context, op: Operator) -> None:
    """Tile."""
    x, counts = ctx.read(op, 0), ctx.ints(op, 1)
    if len(counts) != len(x.perm) or any(n < 0 for n in counts):
        raise ctx.invalid(f"it is repeated {counts} times along {len(x.perm)} axes")
    ctx.give(op, ctx.add("Tile", [x.value, ctx.int64("repeats", apply(x.perm, counts))]), x.perm)


def fill(ctx: Context, op: Operator) -> None:
    """Expand of one value."""
    sizes = ctx.ints(op, 0)
    if any(n < 0 for n in sizes):
        raise ctx.invalid(f"{sizes} is no shape")
    ctx.correct(op.outputs[0], sizes)
    value = ctx.read(op, 1).value
    ctx.give(op, ctx.add("Expand", [value, ctx.int64("shape", sizes)]), identity(len(sizes)))


def reverse_v2(ctx: Context, op: Operator) -> None:
    """Slice with a step of -1."""
    x = ctx.read(op, 0)
    axes = [ctx.axis(a, len(x.perm)) for a in ctx.ints(op, 1)]
    ctx.give(op, _backwards(ctx, x.value, [x.perm.index(a) for a in axes]), x.perm)


def _backwards(ctx: Context, value: ir.Value, axes: Sequence[int]) -> ir.Value:
    n, least = len(axes), np.iinfo(np.int64).min
    lists = ([-1] * n, [least + 1] * n, axes, [-1] * n)
    return ctx.add("Slice", [value, *(ctx.int64("bounds", v) for v in lists)])


def pad(ctx: Context, op: Operator) -> None:
    """Pad with zeros; PADV2 with its third operand."""
    value = ctx.read(op, 2).value if op.name == "PADV2" else None
    if value is not None and ctx.operand(op, 2).shape != ():
        value = ctx.add("Reshape", [value, ctx.int64("shape", [])])
    _pad(ctx, op, "constant", value)


def mirror_pad(ctx: Context, op: Operator) -> None:
    """Pad by reflection; with the edge itself, by one element, that is repeating the edge."""
    reflects = ctx.choice(op, "mode", {0: True, 1: False})
    if not reflects and max(ctx.ints(op, 1), default=0) > 1:
        raise ctx.refuse("MIRROR_PAD that repeats the edge and more")
    _pad(ctx, op, "reflect" if reflects else "edge", None)


def _pad(ctx: Context, op: Operator, mode: str, value: ir.Value | None) -> None:
    x, widths = ctx.read(op, 0), ctx.ints(op, 1)
    if len(widths) != 2 * len(x.perm) or any(w < 0 for w in widths):
        raise ctx.invalid(f"it is padded by {widths} along {len(x.perm)} axes")
    pads = [*apply(x.perm, widths[0::2]), *apply(x.perm, widths[1::2])]
    operands = [x.value, ctx.int64("pads", pads), *([] if value is None else [value])]
    ctx.give(op, ctx.add("Pad", operands, {"mode": mode}), x.perm)


def depth_to_space(ctx: Context, op: Operator) -> None:
    """DepthToSpace in TFLite's order of channels, DCR."""
    _blocks(ctx, op, "DepthToSpace", {"mode": "DCR"})


def space_to_depth(ctx: Context, op: Operator) -> None:
    """SpaceToDepth."""
    _blocks(ctx, op, "SpaceToDepth", {})


def _blocks(ctx: Context, op: Operator, kind: str, attributes: dict[str, object]) -> None:
    block, first = int(op.options["blockSize"]), (0, 3, 1, 2)
    h, w, c = ctx.operand(op, 0).shape[1:]
    if block < 1 or (c % block**2 if kind == "DepthToSpace" else h % block or w % block):
        raise ctx.invalid(f"{(h, w, c)} is not made of blocks of {block}")
    made = ctx.add(kind, [ctx.read(op, 0, first).value], {"blocksize": block, **attributes})
    ctx.give(op, made, first)


def batch_to_space(ctx: Context, op: Operator) -> None:
    """Samples to blocks of pixels, then what is too much cut off: Reshape, Transpose, Slice."""
    shape = ctx.operand(op, 0).shape
    h, w = _block_sizes(ctx, op)
    n, rows, columns, c = shape
    if n % (h * w):
        raise ctx.invalid(f"{n} samples are no blocks of {h} x {w}")
    value = _regrouped(
        ctx,
        op,
        (h, w, n // (h * w), rows, columns, c),
        (2, 3, 0, 4, 1, 5),
        (n // (h * w), rows * h, columns * w, c),
    )
    crops = ctx.ints(op, 2)
    sizes = (rows * h, columns * w)
    starts, ends = crops[0::2], [size - crop for size, crop in zip(sizes, crops[1::2], strict=True)]
    lists = (starts, ends, (1, 2))
    cut = ctx.add("Slice", [value, *(ctx.int64("bounds", v) for v in lists)])
    ctx.correct(op.outputs[0], (n // (h * w), ends[0] - starts[0], ends[1] - starts[1], c))
    ctx.give(op, cut, identity(4))


def space_to_batch(ctx: Context, op: Operator) -> None:
    """Blocks of pixels to samples: Pad, Reshape, Transpose."""
    h, w = _block_sizes(ctx, op)
    pads = ctx.ints(op, 2)
    n, rows, columns, c = ctx.operand(op, 0).shape
    rows, columns = rows + sum(pads[:2]), columns + sum(pads[2:])
    if rows % h or columns % w:
        raise ctx.invalid(f"{rows} x {columns} is not made of blocks of {h} x {w}")
    widths = (0, pads[0], pads[2], 0, 0, pads[1], pads[3], 0)
    x = ctx.read(op, 0, identity(4)).value
    padded = ctx.add("Pad", [x, ctx.int64("pads", widths)], {"mode": "constant"})
    shape = (n * h * w, rows // h, columns // w, c)
    split = (n, rows // h, h, columns // w, w, c)
    value = _moved(ctx, padded, split, (2, 4, 0, 1, 3, 5), shape)
    ctx.correct(op.outputs[0], shape)
    ctx.give(op, value, identity(4))


def _block_sizes(ctx: Context, op: Operator) -> tuple[int, int]:
    sizes = ctx.ints(op, 1)
    if len(sizes) != 2 or len(ctx.operand(op, 0).shape) != 4:
        raise ctx.refuse(f"{op.name} of other than pictures")
    if min(sizes) < 1 or len(ctx.ints(op, 2)) != 4 or min(ctx.ints(op, 2)) < 0:
        raise ctx.invalid(f"{op.name} has blocks of {sizes} and widths {ctx.ints(op, 2)}")
    return sizes[0], sizes[1]


def _regrouped(
    ctx: Context, op: Operator, split: Sequence[int], perm: Perm, shape: Sequence[int]
) -> ir.Value:
    x = ctx.read(op, 0, identity(len(ctx.operand(op, 0).shape)))
    return _moved(ctx, x.value, split, perm, shape)


def _moved(
    ctx: Context, value: ir.Value, split: Sequence[int], perm: Perm, shape: Sequence[int]
) -> ir.Value:
    parts = ctx.add("Reshape", [value, ctx.int64("shape", split)])
    turned = ctx.add("Transpose", [parts], {"perm": perm})
    return ctx.add("Reshape", [turned, ctx.int64("shape", shape)])
