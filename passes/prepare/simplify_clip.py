"""Min, Max, Relu and Clip brought to their simplest form."""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import make_initializer, only_consumer, rank, scalar
from qcompile.passes.prepare.edit import (
    bypass,
    graph_of,
    has_input,
    is_float,
    is_op,
    operand,
    prune,
    replace,
    walk,
)

NAME = "SimplifyClip"


@dataclass(frozen=True)
class SimplifyClip(ir.passes.InPlacePass):
    """Make of Min, Max, Relu and Clip one Relu or Clip. Keeps the float function.

    Every one of them is a pair of limits (lo, hi), constant and scalar:

    1. ``Max(x, c)`` is (c, inf), ``Min(x, c)`` is (-inf, c): each becomes a Clip.
    2. Two of them in a row, the first read by the second alone, become one: limits (a, b) then
       (c, d) are (min(max(a, c), d), min(max(b, c), d)).
    3. (0, inf) becomes Relu; (-inf, inf) is removed.

    Left alone: Min and Max of several values or of a constant that widens the shape, computed
    limits, integer types, a Clip that is in its simplest form.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


@dataclass(frozen=True)
class Limits:
    """A clamp of ``data`` to ``low``..``high``."""

    data: ir.Value
    low: float
    high: float


def _visit(node: ir.Node) -> bool:
    limits = limits_of(node)
    if limits is None:
        return False
    low, high, data = limits.low, limits.high, limits.data
    inner = limits_of(data.producer()) if only_consumer(data) is node else None
    if inner is not None:
        data = inner.data
        low, high = (min(max(n, limits.low), limits.high) for n in (inner.low, inner.high))
    if (low, high) == (-math.inf, math.inf):
        return _remove(node, data)
    wanted = "Relu" if (low, high) == (0.0, math.inf) else "Clip"
    if inner is None and node.op_type == wanted:
        return False
    replace(node, wanted, _inputs(node, data, low, high), NAME)
    return True


def limits_of(node: ir.Node | None) -> Limits | None:
    """The limits of a node that clamps one floating value to constants."""
    if node is None or not is_float(node.outputs[0]):
        return None
    if is_op(node, "Relu"):
        return Limits(operand(node, 0), 0.0, math.inf)
    if is_op(node, "Clip"):
        return _limits_of_clip(node)
    if is_op(node, "Min", "Max") and len(node.inputs) == 2:
        return _limits_of_extremum(node)
    return None


def _limits_of_clip(node: ir.Node) -> Limits | None:
    low = scalar(node.inputs[1]) if has_input(node, 1) else -math.inf
    high = scalar(node.inputs[2]) if has_input(node, 2) else math.inf
    if low is None or high is None or not low <= high:
        return None
    dtype = node.outputs[0].dtype
    assert dtype is not None
    lowest, highest = float(dtype.min), float(dtype.max)
    return Limits(
        operand(node, 0),
        -math.inf if low <= lowest else low,
        math.inf if high >= highest else high,
    )


def _limits_of_extremum(node: ir.Node) -> Limits | None:
    for data, other in ((0, 1), (1, 0)):
        value, limit = operand(node, data), scalar(node.inputs[other])
        dims, added = rank(value), rank(node.inputs[other])
        if limit is None or math.isnan(limit) or added is None or scalar(value) is not None:
            continue
        if added == 0 or (dims is not None and added <= dims):
            if is_op(node, "Max"):
                return Limits(value, limit, math.inf)
            return Limits(value, -math.inf, limit)
    return None


def _remove(node: ir.Node, data: ir.Value) -> bool:
    fed = tuple(v for v in node.inputs if v is not data)
    if not bypass(node, data):
        return False
    prune(fed)
    return True


def _inputs(node: ir.Node, data: ir.Value, low: float, high: float) -> list[ir.Value | None]:
    if (low, high) == (0.0, math.inf):
        return [data]
    inputs: list[ir.Value | None] = [data]
    inputs.append(None if low == -math.inf else _limit(node, low, "min"))
    if high != math.inf:
        inputs.append(_limit(node, high, "max"))
    return inputs


def _limit(node: ir.Node, number: float, what: str) -> ir.Value:
    """The scalar as an initializer; one that an input of the node holds already is used again."""
    dtype = node.outputs[0].dtype
    assert dtype is not None
    wanted = np.array(number, dtype.numpy())
    for value in node.inputs[1:]:
        if value is not None and rank(value) == 0 and scalar(value) == float(wanted):
            return value
    return make_initializer(graph_of(node), f"{node.outputs[0].name}.{what}", wanted)
