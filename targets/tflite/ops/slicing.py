"""Ops that take parts of tensors and put tensors side by side."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import quantize
from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.layout import apply, stored_axis
from qcompile.targets.tflite.operand import Operand
from qcompile.targets.tflite.ops.embedding import dequantizer, indices_of, look_up, read_rows
from qcompile.targets.tflite.ops.forms import converted, known, reshape_into, without_axis
from qcompile.targets.tflite.ops.padding import pad_with
from qcompile.targets.tflite.qdq import is_stored

_MIRROR_MODES: Final = {"reflect": 0}
"""Mode of ONNX's Pad -> the schema's MirrorPadMode."""


def concat(ctx: Context, node: ir.Node) -> None:
    """Concat as CONCATENATION, in the layout of the largest computed input.

    Of more inputs than the target's fast kernel takes, neighbours are put together first, those
    that are smallest together; that copies them twice.
    """
    operands = [ctx.read(node, i) for i in range(len(node.inputs))]
    computed = [o for o in operands if o.data is None]
    perm = max(computed or operands, key=lambda o: int(np.prod(o.shape))).perm
    axis = stored_axis(perm, g.attribute_int(node, "axis", 0))
    y = ctx.define(node, perm)
    parts = [converted(ctx, ctx.stored_as(o, perm), y) for o in operands]
    options = Options("ConcatenationOptions", {"axis": axis, "fusedActivationFunction": 0})
    rule = ctx.target.rule("Concat")
    most = rule.most_inputs if rule is not None and rule.most_inputs > 1 else len(parts)
    while len(parts) > most:
        count = min(most, len(parts) - most + 1)
        sizes = [sum(int(np.prod(p.shape)) for p in parts[i : i + count])
                 for i in range(len(parts) - count + 1)]  # fmt: skip
        first = int(np.argmin(sizes))
        some = parts[first : first + count]
        shape = list(y.shape)
        shape[perm[axis]] = sum(p.shape[perm[axis]] for p in some)
        step = ctx.temporary(y, f"{node.name}_step", shape, perm)
        ctx.emit("CONCATENATION", some, [step], options)
        parts[first : first + count] = [step]
    ctx.emit("CONCATENATION", parts, [y], options)


def split(ctx: Context, node: ir.Node) -> None:
    """Split as SPLIT where all parts are equal, else a SLICE a part (SPLIT_V leaves XNNPACK)."""
    x = ctx.read(node, 0)
    axis = g.attribute_int(node, "axis", 0) % x.rank
    sizes = [ctx.shape(node, i)[axis] for i in range(len(node.outputs))]
    parts = [ctx.define(node, x.perm, index=i) for i in range(len(sizes))]
    alike = all(p.dtype == parts[0].dtype and _same(p, parts[0]) for p in parts)
    if len(set(sizes)) == 1 and len(sizes) > 1 and alike:
        along = ctx.constant("axis", np.asarray(stored_axis(x.perm, axis), np.int32))
        options = Options("SplitOptions", {"numSplits": len(sizes)})
        ctx.emit("SPLIT", [along, converted(ctx, x, parts[0])], parts, options)
        return
    start = 0
    for part, size in zip(parts, sizes, strict=True):
        begin = [0] * x.rank
        begin[axis] = start
        _slice(ctx, converted(ctx, x, part), part, begin)
        start += size


def slice_(ctx: Context, node: ir.Node) -> None:
    """Slice as SLICE, as STRIDED_SLICE where a step is not 1; bounds must be constant."""
    x = ctx.read(node, 0)
    begin, end, steps = _bounds(ctx, node, x.shape)
    y = ctx.define(node, x.perm)
    if set(steps) == {1}:
        _slice(ctx, converted(ctx, x, y), y, begin)
        return
    # An end before the first element cannot be said as a number: -1 counts from the back.
    mask = sum(1 << i for i, e in enumerate(apply(x.perm, end)) if e < 0)
    lists = [
        ctx.constant(name, np.asarray(apply(x.perm, values), np.int32))
        for name, values in (("begin", begin), ("end", end), ("strides", steps))
    ]
    options = Options("StridedSliceOptions", {"endMask": mask})
    ctx.emit("STRIDED_SLICE", [converted(ctx, x, y), *lists], [y], options)


def gather(ctx: Context, node: ir.Node) -> None:
    """Gather as GATHER; one constant index as SLICE, which stays in XNNPACK.

    Constant indices may count from the back. Computed ones may not: GATHER stops the run then.
    """
    behind = dequantizer(node)
    if behind is not None:
        read_rows(ctx, node, behind)
        return
    if is_stored(node.inputs[0]):
        look_up(ctx, node)
        return
    x = ctx.read(node, 0)
    axis = g.attribute_int(node, "axis", 0) % x.rank
    indices = indices_of(ctx, node, x.shape[axis])
    array = indices.data
    if array is not None and array.size == 1 and array.ndim < 2 and x.data is None:
        _take_one(ctx, node, x, axis, int(array.reshape(-1)[0]))
        return
    order: list[int] = []
    for old in x.perm:
        if old == axis:
            order += range(axis, axis + indices.rank)
        else:
            order.append(old + (indices.rank - 1 if old > axis else 0))
    y = ctx.define(node, tuple(order))
    options = Options("GatherOptions", {"axis": stored_axis(x.perm, axis), "batchDims": 0})
    ctx.emit("GATHER", [converted(ctx, x, y), indices], [y], options)


def pad(ctx: Context, node: ir.Node) -> None:
    """Pad by a constant (PAD for 0, else PADV2), by reflection (MIRROR_PAD) or by what lies at the
    edge (GATHER along each padded axis).

    The value is quantized like the output, as the QDQ graph has it. Negative widths cut off: a
    SLICE in front.
    """
    x = ctx.read(node, 0)
    mode = g.attribute_str(node, "mode", "constant")
    if mode not in {"constant", "edge", *_MIRROR_MODES}:
        raise ctx.refuse(node, f"TFLite has no padding of mode {mode}")
    before, after = _widths(ctx, node, x.rank)
    y = ctx.define(node, x.perm)
    x = _cropped(ctx, converted(ctx, x, y), before, after)
    pairs = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
    if mode == "edge":
        _pad_edges(ctx, x, y, pairs)
        return
    stored = np.asarray([pairs[axis] for axis in x.perm], np.int32)
    widths = ctx.constant("paddings", stored)
    if mode != "constant":
        if any(max(p) >= size for p, size in zip(pairs, x.shape, strict=True) if max(p)):
            raise ctx.refuse(node, "it reflects more than the whole picture")
        options = Options("MirrorPadOptions", {"mode": _MIRROR_MODES[mode]})
        ctx.emit("MIRROR_PAD", [x, widths], [y], options)
        return
    value = _padding_value(ctx, node, y)
    if value is None:
        ctx.emit("PAD", [x, widths], [y], Options("PadOptions", {}))
    else:
        pad_with(ctx, x, y, pairs, value)


def _pad_edges(ctx: Context, x: Operand, y: Operand, pairs: Sequence[tuple[int, int]]) -> None:
    """Repeat the first and last element of each padded axis."""
    padded = [axis for axis, pair in enumerate(pairs) if any(pair)]
    if not padded:
        ctx.reshape_into(x, y)
    for axis in padded:
        size, (before, after) = x.shape[axis], pairs[axis]
        places = np.clip(np.arange(-before, size + after), 0, size - 1).astype(np.int32)
        shape = (*x.shape[:axis], places.size, *x.shape[axis + 1 :])
        made = y
        if axis != padded[-1]:
            made = ctx.temporary(y, f"{y.name}_edge_{axis}", shape, x.perm)
        options = Options("GatherOptions", {"axis": stored_axis(x.perm, axis), "batchDims": 0})
        ctx.emit("GATHER", [x, ctx.constant("edge", places)], [made], options)
        x = made


def _same(a: Operand, b: Operand) -> bool:
    return a.quantization is b.quantization or (
        a.quantization is not None and a.quantization.same_as(b.quantization)
    )


def _slice(ctx: Context, x: Operand, y: Operand, begin: Sequence[int]) -> None:
    """SLICE ``y``'s shape out of ``x`` from the logical position ``begin`` on."""
    first = ctx.constant("begin", np.asarray(apply(x.perm, begin), np.int32))
    size = ctx.constant("size", np.asarray(y.stored_shape, np.int32))
    ctx.emit("SLICE", [x, first, size], [y], Options("SliceOptions", {}))


def _take_one(ctx: Context, node: ir.Node, x: Operand, axis: int, index: int) -> None:
    """One element along an axis, which stays with size 1 or goes, as the output's rank says."""
    keeps = len(ctx.shape(node)) == x.rank
    y = ctx.define(node, x.perm if keeps else without_axis(x.perm, axis))
    x = converted(ctx, x, y)
    begin = [index if a == axis else 0 for a in range(x.rank)]
    if keeps:
        _slice(ctx, x, y, begin)
        return
    shape = [1 if a == axis else size for a, size in enumerate(x.shape)]
    taken = ctx.temporary(x, f"{y.name}_taken", shape, x.perm)
    _slice(ctx, x, taken, begin)
    reshape_into(ctx, taken, y)


def _bounds(
    ctx: Context, node: ir.Node, shape: tuple[int, ...]
) -> tuple[list[int], list[int], list[int]]:
    """First element, end and step of each logical axis, by ONNX's rules of clamping."""
    starts, ends = ctx.ints(node, 1), ctx.ints(node, 2)
    if starts is None or ends is None:
        raise ctx.refuse(node, "its bounds are computed as the model runs")
    axes = ctx.ints(node, 3) if ctx.has(node, 3) else tuple(range(len(starts)))
    steps = ctx.ints(node, 4) if ctx.has(node, 4) else (1,) * len(starts)
    if axes is None or steps is None:
        raise ctx.refuse(node, "its axes or steps are computed as the model runs")
    begin, end, step = [0] * len(shape), list(shape), [1] * len(shape)
    for start, stop, axis, stride in zip(starts, ends, axes, steps, strict=True):
        size, at = shape[axis % len(shape)], axis % len(shape)
        first = start + size if start < 0 else start
        last = stop + size if stop < 0 else stop
        low, high = (0, size) if stride > 0 else (-1, size - 1)
        begin[at] = min(max(first, 0), high)
        end[at], step[at] = min(max(last, low), high), stride
    return begin, end, step


def _widths(ctx: Context, node: ir.Node, rank: int) -> tuple[list[int], list[int]]:
    """Padding in front of and behind each logical axis."""
    pads = ctx.ints(node, 1)
    axes = ctx.ints(node, 3) if ctx.has(node, 3) else tuple(range(rank))
    if pads is None or axes is None:
        raise ctx.refuse(node, "its widths are computed as the model runs")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis % rank], after[axis % rank] = pads[i], pads[i + len(axes)]
    return before, after


def _cropped(ctx: Context, x: Operand, before: Sequence[int], after: Sequence[int]) -> Operand:
    """``x`` without what negative widths cut off."""
    ends = list(zip(before, after, strict=True))
    shape = [s + min(b, 0) + min(a, 0) for s, (b, a) in zip(x.shape, ends, strict=True)]
    if tuple(shape) == x.shape:
        return x
    made = ctx.temporary(x, f"{x.name}_cropped", shape, x.perm)
    _slice(ctx, x, made, [-min(b, 0) for b in before])
    return made


def _padding_value(ctx: Context, node: ir.Node, y: Operand) -> np.ndarray | None:
    """The constant to pad with, in the type of ``y``; None for 0, which PAD takes for granted."""
    if not ctx.has(node, 2):
        return None
    given = node.inputs[2]
    maker = given.producer() if given is not None else None
    # The reader makes a scalar of a vector of one.
    known_by = (maker, 0) if maker is not None and maker.op_type == "Reshape" else (node, 2)
    array = known(ctx, *known_by)
    if array is None or np.isnan(array).any():
        raise ctx.refuse(node, "its value is not a constant number")
    if not array.any():
        return None
    value = array.reshape(1)
    if y.quantization is None:
        return value.astype(y.dtype)
    q = y.quantization
    return quantize(value, q.scale[0], q.zero_point[0], y.dtype)
