"""Ranges of activations that follow from the model alone (Nagel et al. 2019, section 5).

What is known and what follows from it, walking the graph once:

1. An input reaches as far as the caller says.
2. A value that a batch normalization made has the mean beta and the deviation gamma of each
   channel (``core.norms``), and is taken to reach ``moments.REACH`` deviations from its mean.
3. Relu, Clip and their like bend the normal curve: moments by quadrature, ends exactly. A Clip or
   a Sigmoid has its ends whatever comes in.
4. Add, Mul by constants, Concat, pools and what only moves elements pass on what they get.
5. Behind a weighted layer without normalization: mean ``W m + b`` and variance ``W^2 v``, as if
   inputs were independent. Each such layer since 1-3 adds to the guess; after ``MOST_LAYERS`` the
   value counts as unknown.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.norms import known_norms
from qcompile.passes.plan.moments import (
    Function,
    Moments,
    added,
    apply,
    averaged,
    between,
    collapsed,
    joined,
    normal,
    scaled,
    widened,
)
from qcompile.passes.prepare.linear import Layer, layer_of

MOST_LAYERS: Final = 2
"""Weighted layers without normalization over which a range is still guessed."""

_FIXED: Final[Mapping[str, tuple[float, float]]] = {
    "Softmax": (0.0, 1.0),
    "Sigmoid": (0.0, 1.0),
    "HardSigmoid": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "Erf": (-1.0, 1.0),
}
"""Ops whose result has these ends whatever comes in."""

_ELEMENTWISE: Final[Mapping[str, Function]] = {
    "Relu": lambda x: np.maximum(x, 0.0),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "HardSigmoid": lambda x: np.clip(0.2 * x + 0.5, 0.0, 1.0),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0.0, 1.0),
    "Tanh": np.tanh,
    "Abs": np.abs,
    "Neg": np.negative,
}
"""Functions of one number."""

_KEEPING: Final = frozenset({"MaxPool", "GlobalMaxPool", "Identity", "Dropout", "Resize",
                             "Upsample"})  # fmt: skip
"""Ops that leave every channel where it is, and within its ends."""

_MOVING: Final = frozenset({"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice",
                            "Split", "Expand", "Tile", "Gather", "DepthToSpace",
                            "SpaceToDepth"})  # fmt: skip
"""Ops after which channels may lie elsewhere."""


def known_moments(
    graph: ir.Graph, inputs: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, Moments]:
    """What is known of each value; what nothing is known of is not in it.

    Args:
        graph: the canonical float graph.
        inputs: name of a graph input -> its smallest and largest number, a channel or (1,).
    """
    norms = known_norms(graph)
    found = {name: between(low, high) for name, (low, high) in inputs.items()}
    for node in graph:
        moments = _of(node, found)
        for value in node.outputs:
            name = value.name or ""
            norm = norms.get(name)
            if norm is not None:
                found[name] = normal(norm.mean, norm.deviation)
            elif moments is not None:
                found[name] = moments
    return found


def known_range(moments: Moments | None, layers: int = MOST_LAYERS) -> tuple[float, float] | None:
    """The range of a value, if it is known well enough to quantize by.

    Args:
        moments: what is known of it.
        layers: over how many weighted layers without normalization it may be a guess.
    """
    if moments is None or (moments.layers > layers and not moments.bounded):
        return None
    low, high = moments.range
    return (low, high) if np.isfinite(low) and np.isfinite(high) else None


def _of(node: ir.Node, found: Mapping[str, Moments]) -> Moments | None:
    """What is known of a node's result."""
    if node.op_type == "Concat":
        return _concat(node, found)
    data = found.get(node.inputs[0].name or "") if node.inputs and node.inputs[0] else None
    if node.op_type in {"Add", "Mul"}:
        return _binary(node, found)
    if node.op_type in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
        return None if data is None else _layer(node, data)
    if node.op_type in _FIXED and data is None:
        return between(*(np.array([end]) for end in _FIXED[node.op_type]))
    if node.op_type == "Clip":
        return _clip(node, data)
    return None if data is None else _single(node, data)


def _single(node: ir.Node, data: Moments) -> Moments | None:
    """What is known of the result of an op with one input that matters."""
    if node.op_type == "Softmax":
        return between(np.zeros(1), np.ones(1))
    if node.op_type == "LeakyRelu":
        slope = g.attribute_float(node, "alpha", 0.01)
        return apply(lambda x: np.where(x < 0, slope * x, x), data)
    if node.op_type in _ELEMENTWISE:
        low, high = _FIXED.get(node.op_type, (-np.inf, np.inf))
        return apply(_ELEMENTWISE[node.op_type], data, low=low, high=high)
    if node.op_type in _KEEPING:
        return data
    if node.op_type in {"AveragePool", "GlobalAveragePool"}:
        return averaged(data, _positions(node))
    if node.op_type == "Pad":
        return _with_zero(data)
    if node.op_type in _MOVING:
        return data if _keeps_channels(node) else collapsed(data)
    return None


def _keeps_channels(node: ir.Node) -> bool:
    """Whether axis 1 of the result is axis 1 of the input: what is flattened behind it is 1."""
    if node.op_type not in {"Reshape", "Flatten", "Squeeze"}:
        return False
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None:
        return False
    if len(before.shape) < 2 or len(after.shape) != 2:
        return False
    return before.shape[1] == after.shape[1] and all(d == 1 for d in before.shape[2:])


def _positions(node: ir.Node) -> int:
    """How many positions a pool takes the mean of; 1 where that is not known."""
    data = node.inputs[0]
    kernel: Iterable[object] = g.attribute_ints(node, "kernel_shape")
    if node.op_type == "GlobalAveragePool" and data is not None and data.shape is not None:
        kernel = data.shape[2:]
    return math.prod(d if isinstance(d, int) else 1 for d in kernel)


def _with_zero(m: Moments) -> Moments:
    low, high = np.minimum(m.low, 0.0), np.maximum(m.high, 0.0)
    return Moments(m.mean, m.deviation, low, high, m.layers, m.bounded)


def _clip(node: ir.Node, data: Moments | None) -> Moments | None:
    bounds = [g.scalar(v) if v is not None else None for v in (*node.inputs[1:3], None, None)][:2]
    low = -np.inf if bounds[0] is None else bounds[0]
    high = np.inf if bounds[1] is None else bounds[1]
    if data is not None:
        bent = apply(lambda x: np.clip(x, low, high), data, low=low, high=high)
        if data.layers == 0 or not bent.bounded:
            return bent
        # the guess may fall short; the ends hold for certain
        return replace(bent, low=np.full_like(bent.low, low), high=np.full_like(bent.high, high))
    if not (np.isfinite(low) and np.isfinite(high)):
        return None
    return between(np.array([low]), np.array([high]))


def _binary(node: ir.Node, found: Mapping[str, Moments]) -> Moments | None:
    """Add of two values, Add or Mul of a value and a constant."""
    arrays = [g.constant(v) for v in node.inputs]
    sides = [found.get(v.name or "") if v is not None else None for v in node.inputs]
    for this, other in ((0, 1), (1, 0)):
        array, data = arrays[other], sides[this]
        if array is None or data is None:
            continue
        vector = _per_channel(array, node.outputs[0])
        if vector is None:  # it varies elsewhere too: one number range stands for it
            return None
        zero, one = np.zeros(1), np.ones(1)
        return scaled(data, vector, zero) if node.op_type == "Mul" else scaled(data, one, vector)
    if node.op_type == "Add" and sides[0] is not None and sides[1] is not None:
        return added(sides[0], sides[1])
    return None


def _per_channel(array: np.ndarray, value: ir.Value) -> np.ndarray | None:
    """A constant as one number, or one for each place along axis 1 of the result."""
    if array.size == 1:
        return array.reshape(1).astype(np.float64)
    rank = g.rank(value)
    if rank is None or array.ndim > rank or rank < 2:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(n != 1 for axis, n in enumerate(shape) if axis != 1):
        return None
    return array.reshape(-1).astype(np.float64)


def _concat(node: ir.Node, found: Mapping[str, Moments]) -> Moments | None:
    parts = [found.get(v.name or "") if v is not None else None for v in node.inputs]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not known:
        return None
    if g.attribute_int(node, "axis", 0) != 1:
        known = [collapsed(part) for part in known]
    else:
        known = [_widened(p, v) for p, v in zip(known, node.inputs, strict=True)]
    whole = joined(known)
    return whole if g.attribute_int(node, "axis", 0) == 1 else collapsed(whole)


def _widened(m: Moments, value: ir.Value | None) -> Moments:
    """One channel for all, written out for each; left as it is where their number is unknown."""
    channels = value.shape[1] if value is not None and value.shape is not None else None
    return widened(m, channels) if len(m.mean) == 1 and isinstance(channels, int) else m


def _layer(node: ir.Node, data: Moments) -> Moments | None:
    """What a weighted layer makes of its input, by rule 5."""
    layer = layer_of(node)
    if layer is None:
        return None
    if layer.channel_axis != 1:  # a MatMul of rank 3: axis 1 is no channel
        data = collapsed(data)
    if len(data.mean) not in {1, layer.in_channels}:
        return None
    mean = layer_mean(layer, data.mean)
    variance = _weighted(layer, layer.grouped() ** 2, data.deviation**2)
    result = normal(mean, np.sqrt(variance), data.layers + 1)
    return result if layer.channel_axis == 1 else collapsed(result)


def layer_mean(layer: Layer, inputs: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Mean of a layer's output channels for the means of its input channels, border aside.

    Args:
        layer: the layer.
        inputs: float64 (in_channels,) or (1,).
        weight: another weight in the place of the layer's own, of its shape.
    """
    w = layer.grouped() if weight is None else _grouped_as(layer, weight)
    mean = _weighted(layer, w, inputs)
    return mean if layer.bias is None or weight is not None else mean + layer.bias


def _grouped_as(layer: Layer, weight: np.ndarray) -> np.ndarray:
    rows = weight.shape[0] // layer.groups
    return weight.reshape(layer.groups, rows, *weight.shape[1:]).astype(np.float64)


def _weighted(layer: Layer, grouped: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    vector = np.broadcast_to(inputs, (layer.in_channels,))
    product = grouped * layer.over_inputs(vector)
    axes = tuple(axis for axis in range(1, product.ndim) if axis != layer.out_axis)
    return np.asarray(product.sum(axis=axes).reshape(-1))
