"""Operators that change the shape, and those that repeat elements."""

import math
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
    blocks, n = _blocks_of(ctx, op)
    batch, sizes, rest = n[0], n[1 : 1 + len(blocks)], n[1 + len(blocks) :]
    count, m = math.prod(blocks), len(blocks)
    if batch % count:
        raise ctx.invalid(f"{batch} samples are no blocks of {blocks}")
    pairs = (axis for k in range(m) for axis in (m + 1 + k, k))
    order = [m, *pairs, *range(2 * m + 1, m + len(n))]
    grown = [size * b for size, b in zip(sizes, blocks, strict=True)]
    x = ctx.read(op, 0, identity(len(n))).value
    split = (*blocks, batch // count, *n[1:])
    value = _moved(ctx, op, x, split, tuple(order), (batch // count, *grown, *rest))
    value = ctx.quantizer.moved(ctx.operand(op, 0), value)
    crops = ctx.ints(op, 2)
    ends = [size - crop for size, crop in zip(grown, crops[1::2], strict=True)]
    left = [end - begin for end, begin in zip(ends, crops[0::2], strict=True)]
    if min(left) < 1:
        raise ctx.invalid(f"{crops} of {grown} is cut off")
    lists = (crops[0::2], ends, range(1, m + 1))
    cut = ctx.add("Slice", [value, *(ctx.int64("bounds", v) for v in lists)])
    ctx.correct(op.outputs[0], (batch // count, *left, *rest))
    ctx.give(op, cut, identity(len(n)))


def space_to_batch(ctx: Context, op: Operator) -> None:
    """Blocks of pixels to samples: Pad, Reshape, Transpose."""
    blocks, n = _blocks_of(ctx, op)
    pads, m = ctx.ints(op, 2), len(blocks)
    sizes = [n[1 + k] + pads[2 * k] + pads[2 * k + 1] for k in range(m)]
    if any(size % b for size, b in zip(sizes, blocks, strict=True)):
        raise ctx.invalid(f"{sizes} is not made of blocks of {blocks}")
    rest = n[1 + m :]
    none = (0,) * len(rest)
    widths = (0, *pads[0::2], *none, 0, *pads[1::2], *none)
    x = ctx.read(op, 0, identity(len(n))).value
    padded = ctx.add("Pad", [x, ctx.int64("pads", widths)], {"mode": "constant"})
    padded = ctx.quantizer.moved(ctx.operand(op, 0), padded)
    fewer = [size // b for size, b in zip(sizes, blocks, strict=True)]
    shape = (n[0] * math.prod(blocks), *fewer, *rest)
    split = (n[0], *(v for pair in zip(fewer, blocks, strict=True) for v in pair), *rest)
    order = (*range(2, 2 * m + 1, 2), 0, *range(1, 2 * m, 2), *range(2 * m + 1, len(split)))
    ctx.correct(op.outputs[0], shape)
    ctx.give(op, _moved(ctx, op, padded, split, order, shape), identity(len(n)))


def _blocks_of(ctx: Context, op: Operator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes of the blocks, and the shape of the operand."""
    blocks, shape, widths = ctx.ints(op, 1), ctx.operand(op, 0).shape, ctx.ints(op, 2)
    fits = 0 < len(blocks) < len(shape) and len(widths) == 2 * len(blocks)
    if not fits or min(blocks) < 1 or min(widths) < 0:
        raise ctx.invalid(f"{op.name} of {shape} has blocks of {blocks} and widths {widths}")
    return blocks, shape


def _moved(
    ctx: Context,
    op: Operator,
    value: ir.Value,
    split: Sequence[int],
    perm: Perm,
    shape: Sequence[int],
) -> ir.Value:
    """Elements of operand 0 in other places; on its integers at each step, where it has any."""
    x = ctx.operand(op, 0)
    parts = ctx.quantizer.moved(x, ctx.add("Reshape", [value, ctx.int64("shape", split)]))
    turned = ctx.quantizer.moved(x, ctx.add("Transpose", [parts], {"perm": perm}))
    return ctx.add("Reshape", [turned, ctx.int64("shape", shape)])
