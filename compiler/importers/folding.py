"""Computes what a graph works out from shapes alone: Shape -> Gather -> Unsqueeze -> Concat chains.

Only small values are touched (axes, targets, sizes, scales); a weight is never computed here, nor
is a large one read. Each entry of the table gives numpy's words for one operator; integer results
are exact and float ones are single IEEE operations, so the float function stays.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qcompile.compiler.importers.constants import replace_by_initializer
from qcompile.compiler.importers.open_targets import close_targets
from qcompile.compiler.importers.tensors import graphs_of
from qcompile.core.graph import attribute_int, attribute_ints, constant

LARGEST = 1024
"""Elements: longer constants are data, not shapes."""

Arrays = Sequence[np.ndarray]
Fold = Callable[[ir.Node, Arrays], np.ndarray]


def fold_shapes(model: ir.Model) -> bool:
    """Replace every small value that is known by an initializer; True if there was one."""
    folded = False
    for graph in graphs_of(model):
        for node in list(graph):
            array = _known_output(node)
            if array is not None:
                read = [value for value in node.inputs if value is not None]
                replace_by_initializer(graph, node.outputs[0], ir.tensor(array))
                _drop_unread(read)
                folded = True
        unread = close_targets(graph, FOLDS)
        _drop_unread(unread)
        folded |= bool(unread)
    return folded


def _drop_unread(values: Sequence[ir.Value]) -> None:
    """Remove what only a folded node read: initializers, and nodes that work on shapes."""
    pending = list(dict.fromkeys(values))
    while pending:
        value = pending.pop()
        if value.uses() or value.is_graph_output() or value.graph is None:
            continue
        node = value.producer()
        if value.is_initializer():
            value.graph.initializers.pop(value.name or "")
        elif node is not None and node.graph is not None and _only_measures(node):
            pending.extend(source for source in node.inputs if source is not None)
            node.graph.remove(node, safe=True)


def _only_measures(node: ir.Node) -> bool:
    known = node.op_type in FOLDS or node.op_type in ("Shape", "Size")
    return known and not node.domain and len(node.outputs) == 1


def _known_output(node: ir.Node) -> np.ndarray | None:
    if node.domain or len(node.outputs) != 1 or node.outputs[0].is_graph_output():
        return None
    if node.op_type in ("Shape", "Size"):
        return _shape_of(node)
    if node.op_type == "Gather":
        known = _gather_from_shape(node)
        if known is not None:
            return known
    fold = FOLDS.get(node.op_type)
    arrays = _small_constants(node) if fold is not None else None
    if fold is None or arrays is None:
        return None
    try:
        array = fold(node, arrays)
    except (ValueError, IndexError, ZeroDivisionError):
        return None  # the runtime will say it better
    return array if array.size <= LARGEST else None


def _small_constants(node: ir.Node) -> list[np.ndarray] | None:
    """All inputs as arrays, or None if one is computed, absent or large."""
    arrays: list[np.ndarray] = []
    for value in node.inputs:
        if value is None or value.const_value is None or value.const_value.size > LARGEST:
            return None
        array = constant(value)
        if array is None or array.dtype.kind not in "iufb":
            return None
        arrays.append(array)
    return arrays


def _dimensions(node: ir.Node) -> list[int | None] | None:
    """The dimensions a Shape or Size node looks at, None where one is not known."""
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    sizes = [d if isinstance(d, int) else None for d in source.shape]
    end = node.attributes.get("end")
    return sizes[attribute_int(node, "start", 0) : None if end is None else end.as_int()]


def _shape_of(node: ir.Node) -> np.ndarray | None:
    sizes = _dimensions(node)
    if sizes is None or None in sizes:
        return None
    array = np.asarray(sizes, np.int64)
    return array if node.op_type == "Shape" else np.asarray(array.prod(), np.int64)


def _gather_from_shape(node: ir.Node) -> np.ndarray | None:
    """One known dimension of a shape that is not known as a whole."""
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    indices = constant(node.inputs[1])
    if producer is None or producer.op_type != "Shape" or indices is None:
        return None
    sizes = _dimensions(producer)
    if sizes is None or indices.size > LARGEST:
        return None
    try:
        picked = [sizes[int(index)] for index in indices.reshape(-1)]
    except IndexError:
        return None
    if None in picked:
        return None
    return np.asarray(picked, np.int64).reshape(indices.shape)


def _gather(node: ir.Node, arrays: Arrays) -> np.ndarray:
    return np.take(arrays[0], arrays[1], axis=attribute_int(node, "axis", 0))


def _unsqueeze(node: ir.Node, arrays: Arrays) -> np.ndarray:
    return np.expand_dims(arrays[0], _axes(node, arrays) or ())


def _transpose(node: ir.Node, arrays: Arrays) -> np.ndarray:
    return np.transpose(arrays[0], attribute_ints(node, "perm") or None)


def _squeeze(node: ir.Node, arrays: Arrays) -> np.ndarray:
    return np.squeeze(arrays[0], _axes(node, arrays))


def _axes(node: ir.Node, arrays: Arrays) -> tuple[int, ...] | None:
    """Axes, an input since opset 13 and an attribute before."""
    if len(arrays) > 1:
        return tuple(int(axis) for axis in arrays[1])
    return attribute_ints(node, "axes") if "axes" in node.attributes else None


def _concat(node: ir.Node, arrays: Arrays) -> np.ndarray:
    return np.concatenate(arrays, axis=attribute_int(node, "axis", 0))


def _cast(node: ir.Node, arrays: Arrays) -> np.ndarray:
    return arrays[0].astype(ir.DataType(attribute_int(node, "to", 1)).numpy())


def _slice(node: ir.Node, arrays: Arrays) -> np.ndarray:
    if len(arrays) == 1:
        raise ValueError("opset 9 keeps its bounds in attributes")
    starts, ends = arrays[1], arrays[2]
    axes = arrays[3] if len(arrays) > 3 else np.arange(len(starts))
    steps = arrays[4] if len(arrays) > 4 else np.ones(len(starts), np.int64)
    cut = [slice(None)] * arrays[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # A negative step that runs past the front ends at None in numpy's words.
        behind = None if step < 0 and end < -arrays[0].shape[axis] else int(end)
        cut[axis] = slice(int(start), behind, int(step))
    return arrays[0][tuple(cut)]


def _reshape(node: ir.Node, arrays: Arrays) -> np.ndarray:
    target = [int(size) for size in arrays[1]]
    if not attribute_int(node, "allowzero", 0):
        target = [arrays[0].shape[i] if size == 0 else size for i, size in enumerate(target)]
    return arrays[0].reshape(target)


def _divide(_: ir.Node, arrays: Arrays) -> np.ndarray:
    a, b = arrays
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    if (b == 0).any():
        raise ZeroDivisionError
    return np.asarray(np.abs(a) // np.abs(b) * np.sign(a) * np.sign(b)).astype(a.dtype)


def _constant_of_shape(node: ir.Node, arrays: Arrays) -> np.ndarray:
    if arrays[0].prod() > LARGEST:
        raise ValueError("data")
    value = node.attributes.get("value")
    filler = np.zeros(1, np.float32) if value is None else value.as_tensor().numpy()
    return np.full(arrays[0].astype(np.int64), filler.reshape(-1)[0], filler.dtype)


def _range(_: ir.Node, arrays: Arrays) -> np.ndarray:
    if arrays[0].dtype.kind == "f":
        raise ValueError("data")
    start, limit, delta = (int(array.reshape(-1)[0]) for array in arrays)
    numbers = range(start, limit, delta)
    if len(numbers) > LARGEST:
        raise ValueError("data")
    return np.asarray(numbers, arrays[0].dtype)


def _expand(_: ir.Node, arrays: Arrays) -> np.ndarray:
    shape = np.broadcast_shapes(arrays[0].shape, tuple(int(size) for size in arrays[1]))
    if np.prod(shape, dtype=np.int64) > LARGEST:
        raise ValueError("data")
    return np.broadcast_to(arrays[0], shape)


def _reduce_prod(node: ir.Node, arrays: Arrays) -> np.ndarray:
    keep = bool(attribute_int(node, "keepdims", 1))
    product = np.prod(arrays[0], axis=_axes(node, arrays), keepdims=keep)
    return np.asarray(product).astype(arrays[0].dtype)


FOLDS: Mapping[str, Fold] = {
    "Add": lambda _, a: np.asarray(a[0] + a[1]),
    "And": lambda _, a: np.logical_and(a[0], a[1]),
    "Cast": _cast,
    "Ceil": lambda _, a: np.ceil(a[0]),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _divide,
    "Equal": lambda _, a: np.equal(a[0], a[1]),
    "Expand": _expand,
    "Floor": lambda _, a: np.floor(a[0]),
    "Gather": _gather,
    "Greater": lambda _, a: np.greater(a[0], a[1]),
    "Identity": lambda _, a: a[0],
    "Less": lambda _, a: np.less(a[0], a[1]),
    "Max": lambda _, a: np.maximum.reduce(np.broadcast_arrays(*a)),
    "Min": lambda _, a: np.minimum.reduce(np.broadcast_arrays(*a)),
    "Mul": lambda _, a: np.asarray(a[0] * a[1]),
    "Neg": lambda _, a: np.asarray(-a[0]),
    "Not": lambda _, a: np.logical_not(a[0]),
    "Or": lambda _, a: np.logical_or(a[0], a[1]),
    "Range": _range,
    "ReduceProd": _reduce_prod,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": lambda _, a: np.asarray(a[0] - a[1]),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": lambda _, a: np.where(a[0], a[1], a[2]),
}
"""Operator -> its value from those of its inputs."""
