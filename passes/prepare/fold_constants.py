"""Nodes whose result is known before the model runs, replaced by constants."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import attribute_int, attribute_ints, constant, static_shape
from qcompile.passes.prepare.edit import (
    GRID_KEYS,
    graph_of,
    has_input,
    is_constant,
    is_op,
    prune,
    walk,
)
from qcompile.passes.prepare.evaluate import EVALUATORS, MOVES, Arrays, Evaluator

SMALL_BYTES = 1 << 16
"""A result up to this size is always folded; a larger one only if its inputs were no smaller."""

LARGE_BYTES = 32 << 20
"""A transpose of this size or more stays a view of what it is made from."""

UNPACKING = 8
"""DequantizeLinear may make that many times the bytes it reads (float32 from four bits)."""


@dataclass(frozen=True)
class FoldConstants(ir.passes.InPlacePass):
    """Replace by a constant what depends on constants and static shapes only. Keeps the floats.

    1. A node of ``EVALUATORS`` with constant inputs. Its value keeps its name.
    2. ``Shape`` of a static shape, and elements picked from a shape that is static in part.
    3. ``DequantizeLinear`` of a constant becomes a float constant that remembers in its
       metadata_props that it lies on an integer grid: ``qcompile.grid_scale`` and
       ``qcompile.grid_zero_point`` (numbers separated by commas, scale as repr of a float),
       ``qcompile.grid_axis`` where there are several, ``qcompile.grid_type`` (as ``INT8``).
       Transpose, Reshape and their like keep what still holds of it.

    A weight that is read transposed and untransposed is thereby kept twice (the head of a language
    model that shares the embedding): a quantizer finds weights only where they are constants.

    Left alone: results over SMALL_BYTES that are larger than what they are made from (the file
    would grow), graph outputs, nodes in subgraphs; and DequantizeLinear with blocks.

    onnxscript's folding is not used: it leaves nodes that read initializers as they are and knows
    no sizes relative to what is replaced.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if len(node.outputs) != 1 or node.outputs[0].is_graph_output():
        return False
    array = _shape_elements(node) if _may_be_shape(node) else None
    if array is None:
        array = _evaluate(node)
    if array is None or not _fits(node, array.nbytes):
        return False
    _put(node, array)
    return True


def _evaluate(node: ir.Node) -> np.ndarray | None:
    """The result of a node with constant inputs only."""
    evaluator = EVALUATORS.get(node.op_type) if node.domain == "" else None
    if evaluator is None or not any(v is not None for v in node.inputs):
        return None
    if not all(v is None or is_constant(v) for v in node.inputs):
        return None
    shape = static_shape(node.outputs[0])
    dtype = node.outputs[0].dtype
    if shape is not None and dtype is not None and not _fits(node, _bytes(shape, dtype)):
        return None
    return _result(evaluator, node, [constant(v) for v in node.inputs])


def _result(evaluator: Evaluator, node: ir.Node, arrays: Arrays) -> np.ndarray | None:
    """What the node computes; None if its operands do not fit, which the runtime will say."""
    try:
        with np.errstate(all="ignore"):
            return evaluator(node, arrays)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None


def _bytes(shape: tuple[int, ...], dtype: ir.DataType) -> int:
    return int(np.prod(shape, dtype=np.int64)) * int(dtype.itemsize)


def _fits(node: ir.Node, size: int) -> bool:
    constants = (v.const_value for v in node.inputs if v is not None)
    read = sum(tensor.nbytes for tensor in constants if tensor is not None)
    return size <= max(SMALL_BYTES, read * (UNPACKING if is_op(node, "DequantizeLinear") else 1))


def _may_be_shape(node: ir.Node) -> bool:
    if is_op(node, "Shape"):
        return True
    return is_op(node, *MOVES) and not all(v is None or is_constant(v) for v in node.inputs)


def _shape_elements(node: ir.Node) -> np.ndarray | None:
    """The result of a node that only picks elements of shapes, when every one is static."""
    array = _known(node.outputs[0])
    if array is None or any(element is None for element in array.reshape(-1)):
        return None
    return array.astype(np.int64)


def _known(value: ir.Value | None) -> np.ndarray | None:
    """A value made of shapes and constants by ``MOVES``: an object array, None where unknown."""
    if value is None:
        return None
    if is_constant(value):
        array = constant(value) if value.dtype == ir.DataType.INT64 else None
        return None if array is None else array.astype(object)
    node = value.producer()
    if node is None or len(node.outputs) != 1:
        return None
    if is_op(node, "Shape"):
        return _shape(node)
    if not is_op(node, *MOVES):
        return None
    data = len(node.inputs) if is_op(node, "Concat") else 1
    arrays = [_known(v) if i < data else constant(v) for i, v in enumerate(node.inputs)]
    if any(v is not None and a is None for v, a in zip(node.inputs, arrays, strict=True)):
        return None
    return _result(MOVES[node.op_type], node, arrays)


def _shape(node: ir.Node) -> np.ndarray | None:
    data = node.inputs[0]
    if data is None or data.shape is None:
        return None
    dims = [d if isinstance(d, int) else None for d in data.shape]
    start, end = attribute_int(node, "start", 0), attribute_int(node, "end", len(dims))
    return np.array(dims[start:end], dtype=object)


def _put(node: ir.Node, array: np.ndarray) -> None:
    """Put an initializer in the place of a node's output, under the same name."""
    graph = graph_of(node)
    old = node.outputs[0]
    name = old.name
    assert name is not None
    value = ir.Value(
        name=name,
        const_value=ir.tensor(_settled(array), name=name),
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
    )
    value.metadata_props.update(_grid(node))
    old.replace_all_uses_with(value)
    fed = tuple(node.inputs)
    graph.remove(node, safe=True)
    graph.register_initializer(value)
    prune(fed)


def _settled(array: np.ndarray) -> np.ndarray:
    """An array of its own; a large one that is another's transpose stays a view of that.

    As the head of a language model is of its embedding, which is kept anyway.
    """
    base = array.base
    is_whole = isinstance(base, np.ndarray) and base.nbytes == array.nbytes
    return array if is_whole and array.nbytes >= LARGE_BYTES else np.asarray(array, order="C")


def _grid(node: ir.Node) -> dict[str, str]:
    """What the constant that replaces a node remembers of an integer grid."""
    data = node.inputs[0] if node.inputs else None
    if is_op(node, "DequantizeLinear"):
        return _grid_of_dequantize(node)
    if data is not None and is_op(node, "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze"):
        props = {key: data.metadata_props[key] for key in GRID_KEYS if key in data.metadata_props}
        axis = props.get("qcompile.grid_axis")
        if axis is None or is_op(node, "Identity"):
            return props
        dims = len(data.shape) if data.shape is not None else 0
        if not is_op(node, "Transpose") or not dims:
            return {}
        perm = attribute_ints(node, "perm") or tuple(reversed(range(dims)))
        return props | {"qcompile.grid_axis": str(perm.index(int(axis) % dims))}
    return {}


def _grid_of_dequantize(node: ir.Node) -> dict[str, str]:
    q, scale = node.inputs[0], constant(node.inputs[1])
    if q is None or q.dtype is None or scale is None:
        return {}
    given = constant(node.inputs[2]) if has_input(node, 2) else None
    zero_point = np.zeros(scale.shape, np.int64) if given is None else given
    props = {
        "qcompile.grid_scale": _numbers(scale),
        "qcompile.grid_zero_point": _numbers(zero_point),
        "qcompile.grid_type": q.dtype.name,
    }
    if scale.size > 1:
        props["qcompile.grid_axis"] = str(attribute_int(node, "axis", 1))
    return props


def _numbers(array: np.ndarray) -> str:
    return ",".join(repr(n.item()) for n in array.reshape(-1))
