"""Along which axis the channels of a value lie, and where an operator moves them to."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.passes.prepare.edit import is_op
from qcompile.passes.prepare.simplify_clip import Limits, limits_of


@dataclass(frozen=True, eq=False)
class Lane:
    """Where the channels of a group lie in one of its values."""

    root: int
    """Number of the group."""
    axis: int
    index: np.ndarray
    """int64: position along the axis -> channel of the group."""

    def alike(self, other: "Lane") -> bool:
        """Whether two values lie the same way."""
        return self.axis == other.axis and np.array_equal(self.index, other.index)


Mover = Callable[[ir.Node, Lane], Lane | None]


def clip_of(node: ir.Node) -> Limits | None:
    """The limits of a Clip with constant ones."""
    return limits_of(node) if is_op(node, "Clip") else None


def homogeneous(limits: Limits) -> bool:
    """Whether clamping commutes with every positive factor."""
    return limits.low in {0.0, -math.inf} and limits.high in {0.0, math.inf}


def _stay(node: ir.Node, lane: Lane) -> Lane | None:
    """The channels stay where they are."""
    return lane


def _slopes(node: ir.Node, lane: Lane) -> Lane | None:
    return lane if g.constant(node.inputs[1]) is not None else None


def _window(node: ir.Node, lane: Lane) -> Lane | None:
    """A pool or a resize: what lies along axis 1 is treated channel by channel."""
    return lane if lane.axis == 1 and _keeps(node, lane) else None


def _resize(node: ir.Node, lane: Lane) -> Lane | None:
    """A resize but for the mode that fills in a number of its own beyond the border."""
    mode = g.attribute_str(node, "coordinate_transformation_mode", "half_pixel")
    return None if mode == "tf_crop_and_resize" else _window(node, lane)


def _pad(node: ir.Node, lane: Lane) -> Lane | None:
    """Padding: zeros and copies are scaled as what they stand beside; other constants are not."""
    if g.attribute_str(node, "mode", "constant") == "constant":
        value = node.inputs[2] if len(node.inputs) > 2 else None
        if value is not None and g.scalar(value) != 0:
            return None
    return lane if _keeps(node, lane) else None


def _keeps(node: ir.Node, lane: Lane) -> bool:
    made = node.outputs[0].shape
    return made is not None and len(made) > lane.axis and made[lane.axis] == lane.index.size


def _reduce(node: ir.Node, lane: Lane) -> Lane | None:
    """A mean or maximum over other axes."""
    rank = g.rank(node.inputs[0])
    given = g.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = g.attribute_ints(node, "axes") if given is None else tuple(map(int, given.reshape(-1)))
    if rank is None or not axes:
        return None
    over = {axis % rank for axis in axes}
    if lane.axis in over:
        return None
    before = 0 if g.attribute_int(node, "keepdims", 1) else sum(a < lane.axis for a in over)
    return Lane(lane.root, lane.axis - before, lane.index)


def _transpose(node: ir.Node, lane: Lane) -> Lane | None:
    rank = g.rank(node.inputs[0])
    if rank is None:
        return None
    order = g.attribute_ints(node, "perm", range(rank - 1, -1, -1))
    return Lane(lane.root, order.index(lane.axis), lane.index)


def _reshape(node: ir.Node, lane: Lane) -> Lane | None:
    """Elements keep their order; the channels must come to lie along one axis.

    What is known of the shapes must reach from the channels to the last axis; unknown dimensions
    before them count as 1, since each of their positions holds the same pattern.
    """
    before, after = _known(node.inputs[0]), _known(node.outputs[0])
    if before is None or after is None or math.prod(before[1]) != math.prod(after[1]):
        return None
    (unknown, shape), (unknown_after, wanted) = before, after
    if unknown > lane.axis:
        return None
    along = [1] * len(shape)
    along[lane.axis] = -1
    pattern = np.broadcast_to(lane.index.reshape(along), shape).reshape(wanted)
    varying = [
        axis
        for axis in range(pattern.ndim)
        if pattern.shape[axis] > 1 and (pattern != pattern.take([0], axis)).any()
    ]
    if len(varying) != 1 or varying[0] < unknown_after:
        return None
    axis = varying[0]
    line = pattern[tuple(slice(None) if i == axis else 0 for i in range(pattern.ndim))]
    return Lane(lane.root, axis, np.ascontiguousarray(line))


def _known(value: ir.Value | None) -> tuple[int, tuple[int, ...]] | None:
    """How many dimensions lead up to the last unknown one, and the shape with 1 for unknown."""
    if value is None or value.shape is None:
        return None
    unknown = max((i + 1 for i, d in enumerate(value.shape) if not isinstance(d, int)), default=0)
    return unknown, tuple(d if isinstance(d, int) else 1 for d in value.shape)


MOVERS: Final[dict[str, Mover]] = {
    "Relu": _stay,
    "LeakyRelu": _stay,
    "Abs": _stay,
    "Neg": _stay,
    "Identity": _stay,
    "PRelu": _slopes,
    "MaxPool": _window,
    "AveragePool": _window,
    "GlobalAveragePool": _window,
    "GlobalMaxPool": _window,
    "Resize": _resize,
    "Pad": _pad,
    "ReduceMean": _reduce,
    "ReduceMax": _reduce,
    "ReduceSum": _reduce,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
}
"""Operators that commute with a positive factor a channel: where they leave the channels."""
