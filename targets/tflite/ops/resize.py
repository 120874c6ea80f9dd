"""Pictures of another size: Resize, DepthToSpace, SpaceToDepth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.notes import Note
from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.layout import Perm, channels_last, identity, stored_axis
from qcompile.targets.tflite.operand import Operand
from qcompile.targets.tflite.ops.forms import converted

_OPERATORS: Final = {
    "nearest": ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
    "linear": ("RESIZE_BILINEAR", "ResizeBilinearOptions"),
}
_TOLERANCE: Final = 1e-4
"""Of a pixel: how far sampling positions may lie apart. A 25th of an 8-bit step is the most that
this changes between a black and a white pixel."""


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized; ``scale`` is output over input."""

    before: int
    after: int
    scale: float


@dataclass(frozen=True)
class _Sampling:
    """The two flags by which TFLite knows where an output pixel lies in the input."""

    align_corners: bool = False
    half_pixel: bool = False

    def positions(self, axis: _Axis) -> np.ndarray:
        """Position of each output pixel, in float32 as the kernels have it; not clipped."""
        if self.align_corners and axis.after > 1:
            step = np.float32(axis.before - 1) / np.float32(axis.after - 1)
        else:
            step = np.float32(axis.before) / np.float32(axis.after)
        at = np.arange(axis.after, dtype=np.float32)
        return (at + np.float32(0.5)) * step - np.float32(0.5) if self.half_pixel else at * step

    def nearest(self, axis: _Axis) -> np.ndarray:
        """Index of the input pixel that each output pixel copies."""
        at = self.positions(axis)
        if self.half_pixel:
            at = at + np.float32(0.5)
        index = np.floor(at + np.float32(0.5)) if self.align_corners else np.floor(at)
        return np.clip(index, 0, axis.before - 1).astype(np.int64)


_CHOICES: Final = (
    _Sampling(),
    _Sampling(half_pixel=True),
    _Sampling(align_corners=True),
)


def resize(ctx: Context, node: ir.Node) -> None:
    """Resize of two axes.

    TFLite has three ways to place output pixels, ONNX has more, and some are the same for given
    sizes. So the positions themselves are compared:

    1. bilinear: RESIZE_BILINEAR with the flags that give ONNX's positions; refused if none does;
    2. nearest: RESIZE_NEAREST_NEIGHBOR with the flags that copy the same pixels; if none does,
       a GATHER along each axis with the indices written out.
    """
    mode = g.attribute_str(node, "mode", "nearest")
    if mode not in _OPERATORS:
        raise ctx.refuse(node, f"TFLite has no {mode} interpolation")
    shape = ctx.shape(node)
    x = ctx.read(node, 0)
    axes = _axes(ctx, node, x.shape, shape)
    if all(axis.before == axis.after and axis.scale == 1 for axis in axes):
        ctx.alias(node, x)
        return
    perm, spatial = _layout(ctx, node, axes)
    x = ctx.stored_as(x, perm)
    pair = [axes[a] for a in spatial]
    y = ctx.define(node, perm)
    x = converted(ctx, x, y)
    found = _bilinear(node, pair) if mode == "linear" else _nearest(node, pair)
    if found is not None:
        operator, table = _OPERATORS[mode]
        size = ctx.constant("size", np.asarray([a.after for a in pair], np.int32))
        flags = {"alignCorners": found.align_corners, "halfPixelCenters": found.half_pixel}
        ctx.emit(operator, [x, size], [y], Options(table, flags))
        return
    if mode == "linear":
        way = g.attribute_str(node, "coordinate_transformation_mode", "half_pixel")
        sizes = ", ".join(f"{a.before} to {a.after}" for a in pair)
        raise ctx.refuse(node, f"TFLite has no {way} placing of pixels for sizes {sizes}")
    _gathered(ctx, node, x, y, {a: axes[a] for a in spatial})


def depth_to_space(ctx: Context, node: ir.Node) -> None:
    """DepthToSpace.

    DCR is TFLite's own order of channels. CRD has a channel's block side by side: the channels
    (C, b*b) are transposed to (b*b, C) first, unless there is one output channel only.
    """
    x = ctx.read(node, 0, channels_last(4))
    block = g.attribute_int(node, "blocksize", 1)
    y = ctx.define(node, channels_last(4))
    x = converted(ctx, x, y)
    if g.attribute_str(node, "mode", "DCR") == "CRD" and y.shape[1] > 1:
        x = _block_first(ctx, node, x, block * block)
    ctx.emit("DEPTH_TO_SPACE", [x], [y], Options("DepthToSpaceOptions", {"blockSize": block}))


def space_to_depth(ctx: Context, node: ir.Node) -> None:
    """SpaceToDepth: the order of channels is the same in both."""
    x = ctx.read(node, 0, channels_last(4))
    block = g.attribute_int(node, "blocksize", 1)
    y = ctx.define(node, channels_last(4))
    options = Options("SpaceToDepthOptions", {"blockSize": block})
    ctx.emit("SPACE_TO_DEPTH", [converted(ctx, x, y)], [y], options)


def _axes(
    ctx: Context, node: ir.Node, before: Sequence[int], after: Sequence[int]
) -> tuple[_Axis, ...]:
    """All logical axes with the scales that ONNX computes positions with."""
    if g.attribute_int(node, "antialias", 0) and any(
        b > a for b, a in zip(before, after, strict=True)
    ):
        raise ctx.refuse(node, "TFLite has no antialiasing")
    if g.attribute_int(node, "exclude_outside", 0):
        raise ctx.refuse(node, "TFLite cannot exclude pixels outside")
    scales = [a / b for b, a in zip(before, after, strict=True)]
    given = g.constant(node.inputs[2]) if ctx.has(node, 2) else None
    if ctx.has(node, 2) and given is None:
        raise ctx.refuse(node, "its scales are computed as the model runs")
    if given is not None and given.size:
        some = g.attribute_ints(node, "axes", range(len(before)))
        for axis, scale in zip(some, given.reshape(-1), strict=True):
            scales[axis] = float(scale)
    return tuple(_Axis(b, a, s) for b, a, s in zip(before, after, scales, strict=True))


def _layout(ctx: Context, node: ir.Node, axes: Sequence[_Axis]) -> tuple[Perm, tuple[int, int]]:
    """The order in which the two resized axes are TFLite's height and width, and which they are."""
    changed = {i for i, axis in enumerate(axes) if axis.before != axis.after or axis.scale != 1}
    if len(axes) == 4 and changed <= {2, 3}:
        return channels_last(4), (2, 3)
    if len(axes) == 4 and changed <= {1, 2}:
        return identity(4), (1, 2)
    raise ctx.refuse(node, "TFLite resizes two neighbouring axes of a picture")


def _onnx_positions(node: ir.Node, axis: _Axis) -> np.ndarray | None:
    """Where ONNX samples, in float32 as ONNX Runtime computes it; None for a mode that crops."""
    way = g.attribute_str(node, "coordinate_transformation_mode", "half_pixel")
    at = np.arange(axis.after, dtype=np.float32)
    scale, half = np.float32(axis.scale), np.float32(0.5)
    centred = (at + half) / scale - half
    if way == "half_pixel":
        return centred
    if way == "pytorch_half_pixel":
        return centred if axis.after > 1 else np.zeros_like(at)
    if way == "half_pixel_symmetric":
        adjusted = np.float32(axis.after) / (scale * np.float32(axis.before))
        middle = np.float32(axis.before) / 2
        return middle * (1 - adjusted) + centred
    if way == "asymmetric":
        return at / scale
    if way == "align_corners":
        return at * np.float32(axis.before - 1) / np.float32(max(axis.after - 1, 1))
    return None


def _bilinear(node: ir.Node, pair: Sequence[_Axis]) -> _Sampling | None:
    """The flags under which both axes are sampled where ONNX does."""
    for choice in _CHOICES:
        if all(_close(_onnx_positions(node, axis), choice.positions(axis), axis) for axis in pair):
            return choice
    return None


def _close(wanted: np.ndarray | None, given: np.ndarray, axis: _Axis) -> bool:
    if wanted is None:
        return False
    # Outside, the pixel at the edge is taken by both.
    last = axis.before - 1
    apart = np.abs(np.clip(wanted, 0, last) - np.clip(given, 0, last))
    return bool(apart.max(initial=0) <= _TOLERANCE)


def _nearest(node: ir.Node, pair: Sequence[_Axis]) -> _Sampling | None:
    """The flags under which both axes copy the pixels that ONNX does."""
    for choice in _CHOICES:
        wanted = [_onnx_nearest(node, axis) for axis in pair]
        if all(
            w is not None and np.array_equal(w, choice.nearest(axis))
            for w, axis in zip(wanted, pair, strict=True)
        ):
            return choice
    return None


def _onnx_nearest(node: ir.Node, axis: _Axis) -> np.ndarray | None:
    positions = _onnx_positions(node, axis)
    if positions is None:
        return None
    rounding = g.attribute_str(node, "nearest_mode", "round_prefer_floor")
    half = np.float32(0.5)
    index: np.ndarray = {
        "round_prefer_floor": np.ceil(positions - half),
        "round_prefer_ceil": np.floor(positions + half),
        "floor": np.floor(positions),
        "ceil": np.ceil(positions),
    }[rounding]
    index = np.clip(index, 0, axis.before - 1)
    return index.astype(np.int64)


def _gathered(
    ctx: Context, node: ir.Node, x: Operand, y: Operand, spatial: dict[int, _Axis]
) -> None:
    """Nearest by indices: a GATHER along each axis that changes."""
    todo = [
        (a, _onnx_nearest(node, axis))
        for a, axis in spatial.items()
        if axis.before != axis.after or axis.scale != 1
    ]
    for position, (axis, indices) in enumerate(todo):
        if indices is None:
            raise ctx.refuse(node, "TFLite does not crop and resize")
        shape = list(x.shape)
        shape[axis] = len(indices)
        last = position == len(todo) - 1
        made = y if last else ctx.temporary(x, f"{y.name}_rows", shape, x.perm)
        options = Options("GatherOptions", {"axis": stored_axis(x.perm, axis), "batchDims": 0})
        taken = ctx.constant("indices", indices.astype(np.int32))
        ctx.emit("GATHER", [x, taken], [made], options)
        x = made


def _block_first(ctx: Context, node: ir.Node, x: Operand, block: int) -> Operand:
    """Channels of a picture stored channels-last, (C, block) reordered to (block, C)."""
    n, channels, height, width = x.shape
    pixels, inner = n * height * width, channels // block
    flat = ctx.reshaped(x, (pixels, inner, block), identity(3))
    turned = ctx.temporary(flat, f"{x.name}_turned", (pixels, block, inner), identity(3))
    order = ctx.constant("perm", np.asarray((0, 2, 1), np.int32))
    ctx.emit("TRANSPOSE", [flat, order], [turned], Options("TransposeOptions", {}))
    ctx.notes.append(Note("info", f"channels of {x.name} are reordered: mode CRD", node.name))
    return ctx.reshaped(turned, x.shape, x.perm)
