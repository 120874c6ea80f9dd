"""ReduceMean over the spatial axes rewritten as GlobalAveragePool, which has integer kernels."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core.graph import attribute_int, constant, rank
from qcompile.passes.prepare.edit import has_input, insert, is_op, is_single, operand, replace, walk

NAME = "ReduceMeanToGlobalAveragePool"

SPATIAL_SOURCES = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "BatchNormalization")
"""What makes a value of rank 3 a feature map (N, C, L) rather than a sequence (N, S, D)."""

SEARCH_DEPTH = 12


@dataclass(frozen=True)
class ReduceMeanToGlobalAveragePool(ir.passes.InPlacePass):
    """Rewrite the mean over all spatial axes of a feature map. Keeps the float function.

    1. ``ReduceMean(x, axes=2..r-1, keepdims=1)``, x float (not double) of rank r = 4 or 5, becomes
       ``GlobalAveragePool(x)``; with keepdims=0 a Flatten follows, which makes it (N, C) again.
    2. The same for rank 3 if x is made by a convolution, pooling or normalization through ops that
       keep the layout. Otherwise the last axis may be the features of a sequence, and the mean a
       part of a LayerNorm.

    Left alone: other axes, computed axes, integers and double, unknown rank.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if not is_op(node, "ReduceMean") or not is_single(node.inputs[0]):
        return False
    data = operand(node, 0)
    dims = rank(data)
    if dims not in (3, 4, 5) or not _is_over_space(node, dims):
        return False
    if dims == 3 and not _is_feature_map(data, SEARCH_DEPTH):
        return False
    if attribute_int(node, "keepdims", 1):
        replace(node, "GlobalAveragePool", [data], NAME)
        return True
    assert data.shape is not None
    like = ir.Value(type=data.type, shape=ir.Shape([*list(data.shape)[:2], *[1] * (dims - 2)]))
    name = f"{node.outputs[0].name}.{NAME}"
    pooled = insert(node, "GlobalAveragePool", [data], name, NAME, like=like)
    replace(node, "Flatten", [pooled], NAME, attributes={"axis": 1})
    return True


def _is_over_space(node: ir.Node, dims: int) -> bool:
    axes = constant(node.inputs[1]) if has_input(node, 1) else None
    if axes is None:
        return False
    return sorted(int(a) % dims for a in axes.reshape(-1)) == list(range(2, dims))


def _is_feature_map(value: ir.Value | None, depth: int) -> bool:
    """Whether the value comes from a spatial op through ops that keep rank and layout."""
    node = value.producer() if value is not None else None
    if node is None or depth == 0:
        return False
    if is_op(node, *SPATIAL_SOURCES):
        return True
    if is_op(node, "Concat"):
        return _is_feature_map(node.inputs[0], depth - 1)
    kept = ("Add", "Mul", "Sub", "Div", "Pad")
    if not is_op(node, *kept, "Relu", "Clip", "Sigmoid", "HardSwish", "LeakyRelu", "PRelu", "Gelu"):
        return False
    return any(_is_feature_map(v, depth - 1) for v in node.inputs)
