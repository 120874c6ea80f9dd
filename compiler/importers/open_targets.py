"""A Reshape whose target is computed and has one number that is not known gets -1 in its place.

Exporters write ``x.reshape(x.shape[0], 4, 16)`` as Shape -> Slice -> Concat -> Reshape. With an
open batch the chain cannot be folded, but what it comes to is [?, 4, 16], which a Reshape works out
itself: the other numbers are positive, so that only one is left for it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import attribute_int, constant, make_initializer

LARGEST: Final = 64
"""Numbers in a shape or in what is made of one; longer values are data."""
_MOVES: Final = ("Concat", "Gather", "Identity", "Mul", "Add", "Sub", "Slice", "Squeeze")
_FOLLOWED: Final = frozenset((*_MOVES, "Reshape", "Unsqueeze"))
"""Operators through which a number that is not known (NaN) stays one."""

Fold = Callable[[ir.Node, Sequence[np.ndarray]], np.ndarray]
Known = Mapping[ir.Value, np.ndarray]


def close_targets(graph: ir.Graph, folds: Mapping[str, Fold]) -> list[ir.Value]:
    """Give each such Reshape of a sorted graph a constant target.

    Args:
        graph: changed in place.
        folds: numpy's words for operators, as ``folding.FOLDS``.

    Returns:
        The computed targets that these no longer read.
    """
    known: dict[ir.Value, np.ndarray] = {}
    unread: list[ir.Value] = []
    for node in tuple(graph):
        if node.domain or len(node.outputs) != 1:
            continue
        if node.op_type == "Reshape" and (target := node.inputs[1]) in known:
            numbers = known[target]
            if numbers.ndim == 1 and np.isnan(numbers).sum() == 1 and not (numbers <= 0).any():
                fixed = np.where(np.isnan(numbers), -1, numbers).astype(np.int64)
                name = f"{node.name or 'reshape'}_target"
                node.replace_input_with(1, make_initializer(graph, name, fixed))
                unread.append(target)
        array = _numbers(node, known, folds)
        if array is not None:
            known[node.outputs[0]] = array
    return unread


def _numbers(node: ir.Node, known: Known, folds: Mapping[str, Fold]) -> np.ndarray | None:
    """What a node computes from shapes, as floats in which NaN is a number that is not known."""
    if node.op_type == "Shape":
        return _shape(node)
    if node.op_type not in _FOLLOWED or not any(value in known for value in node.inputs):
        return None
    arrays = [_operand(value, known) for value in node.inputs if value is not None]
    if any(array is None for array in arrays) or len(arrays) < len(node.inputs):
        return None
    first, *others = [array for array in arrays if array is not None]
    if node.op_type in ("Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape"):
        if any(np.isnan(array).any() for array in others):
            return None
        others = [a if a.dtype.kind in "iu" else a.astype(np.int64) for a in others]
    try:
        made = folds[node.op_type](node, [first, *others])
    except (ValueError, IndexError):
        return None  # the runtime will say it better
    return made if made.size <= LARGEST else None


def _shape(node: ir.Node) -> np.ndarray | None:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    sizes = [float(d) if isinstance(d, int) else np.nan for d in source.shape]
    end = node.attributes.get("end")
    cut = sizes[attribute_int(node, "start", 0) : None if end is None else end.as_int()]
    return np.asarray(cut, np.float64)


def _operand(value: ir.Value, known: Known) -> np.ndarray | None:
    if value in known:
        return known[value]
    if value.const_value is None or value.const_value.size > LARGEST:
        return None
    array = constant(value)
    return array if array is not None and array.dtype.kind in "iu" else None
