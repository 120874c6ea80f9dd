"""Fixes dimensions of a model's inputs: those the user names, and the batch where shapes must be
static.
"""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from qcompile.compiler.importers.tensors import graphs_of
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note

Symbols = dict[str, int]
"""Name of a dimension -> the size it was fixed to."""


_NO_NAMES = frozenset({"", "?", "-1", "None"})
"""What exporters write for an open dimension that has no name: two of them need not be equal."""


def open_nameless_dimensions(model: ir.Model) -> None:
    """Make dimensions that a file writes as -1 or ``?`` ones that nothing is known of."""
    for graph in model.graphs():
        values = (*graph.inputs, *graph.outputs, *(v for node in graph for v in node.outputs))
        for value in values:
            sizes = list(value.shape or ())
            if any(_is_nameless(size) for size in sizes):
                value.shape = ir.Shape([None if _is_nameless(d) else d for d in sizes])


def _is_nameless(size: int | ir.SymbolicDim) -> bool:
    return size < 0 if isinstance(size, int) else size.value in _NO_NAMES


def fix_dimensions(
    model: ir.Model, shapes: Mapping[str, Sequence[int]], *, static: bool
) -> list[Note]:
    """Fix input dimensions in place; a named dimension is fixed wherever its name occurs.

    Args:
        model: a model whose inputs are only those the user feeds.
        shapes: input name -> the full shape, sizes of at least 1.
        static: also fix an unknown first dimension to 1, and insist that all are known then.

    Returns:
        What was fixed without the user having said so.

    Raises:
        QCompileError: BAD_OPTION for a name or size that cannot be, SHAPE_CONFLICT where a size
            contradicts the model or another one, SHAPE_NOT_STATIC naming every unknown dimension.
    """
    inputs = {str(value.name): value for value in model.graph.inputs}
    symbols: Symbols = {}
    for name, sizes in shapes.items():
        if name not in inputs:
            raise QCompileError(
                Code.BAD_OPTION,
                f"the model has no input {name}",
                hint=f"its inputs are {', '.join(inputs)}",
            )
        _fix_input(inputs[name], sizes, symbols)
    _spread(model, symbols)
    notes: list[Note] = []
    if static:
        notes = _fix_batch(inputs, symbols)
        _spread(model, symbols)
        _insist_static(inputs)
    return notes


def _fix_input(value: ir.Value, sizes: Sequence[int], symbols: Symbols) -> None:
    wanted = "x".join(map(str, sizes))
    scalar = value.shape is not None and len(value.shape) == 0
    if any(size < 1 for size in sizes) or not (sizes or scalar):
        raise QCompileError(Code.BAD_OPTION, f"{wanted or 'nothing'} is no shape for {value.name}")
    if value.shape is None:
        value.shape = ir.Shape(sizes)
        return
    if len(sizes) != len(value.shape):
        raise _conflict(value, wanted, f"the model gives it {len(value.shape)} dimensions")
    for index, (size, known) in enumerate(zip(sizes, value.shape, strict=True)):
        if isinstance(known, int):
            if known != size:
                raise _conflict(value, wanted, f"the model fixes dimension {index} to {known}")
        elif known.value is not None and symbols.setdefault(known.value, size) != size:
            other = symbols[known.value]
            raise _conflict(value, wanted, f"dimension {known.value} is {other} elsewhere")
    value.shape = ir.Shape(sizes)


def _fix_batch(inputs: Mapping[str, ir.Value], symbols: Symbols) -> list[Note]:
    fixed: list[str] = []
    for name, value in inputs.items():
        if value.shape is None or len(value.shape) == 0 or isinstance(value.shape[0], int):
            continue
        symbol = value.shape[0].value
        if symbol is not None:
            symbols.setdefault(symbol, 1)
        _set(value, 0, 1)
        fixed.append(name)
    if not fixed:
        return []
    return [Note("info", f"the target needs static shapes: batch of {', '.join(fixed)} fixed to 1")]


def _insist_static(inputs: Mapping[str, ir.Value]) -> None:
    unknown: list[str] = []
    for name, value in inputs.items():
        if value.shape is None:
            unknown.append(f"{name} (no shape at all)")
            continue
        for index, size in enumerate(value.shape):
            if not isinstance(size, int):
                label = f" ({size.value})" if size.value else ""
                unknown.append(f"{name} dimension {index}{label}")
    if unknown:
        first = unknown[0].split(" ", 1)[0]
        raise QCompileError(
            Code.SHAPE_NOT_STATIC,
            f"the target needs static shapes, these are not known: {', '.join(unknown)}",
            hint=f"give them: --shape {first}=1,...",
        )


def _spread(model: ir.Model, symbols: Symbols) -> None:
    """Put the sizes in wherever the names stand."""
    if not symbols:
        return
    for graph in graphs_of(model):
        for value in (*graph.inputs, *graph.outputs, *(o for node in graph for o in node.outputs)):
            for index, size in enumerate(value.shape or ()):
                if isinstance(size, ir.SymbolicDim) and size.value in symbols:
                    _set(value, index, symbols[size.value])


def _set(value: ir.Value, index: int, size: int) -> None:
    assert value.shape is not None
    sizes = list(value.shape)
    sizes[index] = size
    value.shape = ir.Shape(sizes)


def _conflict(value: ir.Value, wanted: str, why: str) -> QCompileError:
    return QCompileError(
        Code.SHAPE_CONFLICT, f"input {value.name} cannot have shape {wanted}: {why}"
    )
