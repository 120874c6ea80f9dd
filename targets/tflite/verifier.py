"""Checks a finished TFLite file against the operator table, since the runtime does not.

A runtime loads files whose parameters make no sense and computes something; this is where they are
caught. A fault in a file that we wrote is a bug of ours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from qcompile.core.errors import QCompileError
from qcompile.core.numerics.affine import LIMITS
from qcompile.targets.tflite.operator_table import Table, operator_table
from qcompile.targets.tflite.reading import BITS, Graph, Operator, Tensor, read_graph
from qcompile.targets.tflite.rules import RULES, Seen

_VERSION: Final = 3
OLDEST: Final = "2.14"
"""The oldest runtime that ``operators.toml`` knows."""


@dataclass(frozen=True)
class Fault:
    """One place where a file breaks a rule."""

    rule: str
    """The rule, one sentence."""
    found: str
    """What is there instead."""
    operator: int | None = None
    """Index of the operator, None for what concerns the file or a tensor alone."""
    name: str = ""
    """The operator's name."""
    tensor: str = ""
    """The tensor's name."""

    def __str__(self) -> str:
        where = [] if self.operator is None else [f"operator {self.operator} {self.name}"]
        where += [f"tensor {self.tensor!r}"] if self.tensor else []
        return f"{', '.join(where) or 'file'}: {self.rule}; found: {self.found}"


def verify_flatbuffer(
    data: bytes, table: Table | None = None, *, runtime: str = OLDEST
) -> list[Fault]:
    """All faults of a finished file; none for a sound one.

    Args:
        data: the file.
        table: operators that may stand in it [all of ``operators.toml``].
        runtime: the oldest runtime that must load it, by the names of ``operators.toml``.
    """
    try:
        graph = read_graph(data)
    except QCompileError as error:
        return [Fault("the file is a TFLite flatbuffer", error.message)]
    damage = [*_tensors(graph), *_wiring(graph)]
    faults = [*_file(graph), *damage]
    if any(fault.operator is None or fault.rule == EXISTS for fault in damage):
        return faults  # operators cannot be looked at while their tensors make no sense
    rows = operator_table() if table is None else table
    for operator in graph.operators:
        faults += _operator(graph, operator, rows, runtime)
    return faults


# --- the file --------------------------------------------------------------------------------


def _file(graph: Graph) -> Iterator[Fault]:
    if graph.version != _VERSION:
        yield Fault("the schema's version is 3", str(graph.version))
    if graph.subgraphs != 1:
        yield Fault("the file holds one graph", str(graph.subgraphs))
    for inputs, outputs in graph.signatures.values():
        for names, ends in ((inputs, graph.inputs), (outputs, graph.outputs)):
            if sorted(names.values()) != sorted(ends):
                found = f"{sorted(names.values())} beside {sorted(ends)}"
                yield Fault("a signature names the inputs and outputs of the graph", found)


# --- tensors ---------------------------------------------------------------------------------


def _known_type(tensor: Tensor) -> str | None:
    return None if tensor.dtype in BITS else tensor.dtype


def _shape_of_numbers(tensor: Tensor) -> str | None:
    return None if all(size >= 0 for size in tensor.shape) else str(tensor.shape)


def _bytes(tensor: Tensor) -> str | None:
    if tensor.raw is None or tensor.dtype not in BITS or tensor.raw.size == tensor.nbytes:
        return None
    return f"{tensor.raw.size} bytes for {tensor.nbytes}"


def _scales(tensor: Tensor) -> str | None:
    q = tensor.quantization
    if q is None:
        return None
    wrong = ~(np.isfinite(q.scale) & (q.scale >= np.finfo(np.float32).tiny))
    return f"{q.scale[int(np.flatnonzero(wrong)[0])]:.9g}" if wrong.any() else None


def _zero_points(tensor: Tensor) -> str | None:
    q = tensor.quantization
    if q is None or q.zero_point.size == q.scale.size:
        return None
    return f"{q.zero_point.size} zero points for {q.scale.size} scales"


def _zero_point_range(tensor: Tensor) -> str | None:
    q = tensor.quantization
    if q is None or tensor.dtype not in LIMITS:
        return None
    low, high = LIMITS[tensor.dtype]
    wrong = (q.zero_point < low) | (q.zero_point > high)
    return f"{q.zero_point[int(np.flatnonzero(wrong)[0])]}" if wrong.any() else None


def _channels(tensor: Tensor) -> str | None:
    q = tensor.quantization
    if q is None or q.scale.size == 1 or tensor.is_blockwise:
        return None
    if not 0 <= q.axis < len(tensor.shape):
        return f"axis {q.axis} of {len(tensor.shape)}"
    length = tensor.shape[q.axis]
    return None if q.scale.size == length else f"{q.scale.size} scales along an axis of {length}"


TENSOR_RULES: Final[tuple[tuple[str, Callable[[Tensor], str | None]], ...]] = (
    ("a tensor's element type is known", _known_type),
    ("every dimension is a number", _shape_of_numbers),
    ("a constant has as many bytes as its shape and type say", _bytes),
    ("scales are positive, finite and normal", _scales),
    ("there is a zero point for every scale", _zero_points),
    ("zero points are integers of the tensor's type", _zero_point_range),
    ("there are as many scales as the axis is long", _channels),
)
"""Rules of tensors; a check returns what it found, or None."""


def _tensors(graph: Graph) -> Iterator[Fault]:
    for tensor in graph.tensors:
        for rule, check in TENSOR_RULES:
            found = check(tensor)
            if found is not None:
                yield Fault(rule, found, tensor=tensor.name)


# --- wiring ----------------------------------------------------------------------------------

EXISTS: Final = "an operator reads and makes tensors that exist"
ORDERED: Final = "an operator reads inputs, constants and what was made before"
ONCE: Final = "a tensor is made once, and no input or constant is made"
MADE: Final = "an output of the graph is an input or made by an operator"


def _wiring(graph: Graph) -> Iterator[Fault]:
    count = len(graph.tensors)
    given = {t.index for t in graph.tensors if t.is_constant or t.is_variable}
    made = set(graph.inputs)
    for op in graph.operators:
        missing = [i for i in op.inputs if not -1 <= i < count]
        missing += [i for i in op.outputs if not 0 <= i < count]
        if missing:
            yield Fault(EXISTS, f"tensor {missing[0]} of {count}", op.index, op.name)
            continue
        for index in op.inputs:
            if index >= 0 and index not in made | given and graph.tensors[index].size:
                yield _at(graph, ORDERED, "nothing made it yet", op, index)
        for index in op.outputs:
            if index in made or index in given:
                yield _at(graph, ONCE, "it is there already", op, index)
            made.add(index)
    for index in graph.outputs:
        if index not in made:
            name = graph.tensors[index].name if 0 <= index < count else str(index)
            yield Fault(MADE, "nothing makes it", tensor=name)


def _at(graph: Graph, rule: str, found: str, op: Operator, index: int) -> Fault:
    return Fault(rule, found, op.index, op.name, graph.tensors[index].name)


# --- operators -------------------------------------------------------------------------------


def seen(graph: Graph, operator: Operator, table: Table, runtime: str = OLDEST) -> Seen | None:
    """An operator with its operands; None when the table has no row for it."""
    row = table.get(operator.name)
    if row is None:
        return None
    inputs = tuple(graph.tensor(index) for index in operator.inputs)
    outputs = tuple(graph.tensors[index] for index in operator.outputs)
    form = row.form([None if t is None else t.dtype for t in inputs], [t.dtype for t in outputs])
    return Seen(operator, row, form, inputs, outputs, runtime)


def _operator(graph: Graph, operator: Operator, table: Table, runtime: str) -> Iterator[Fault]:
    looked_at = seen(graph, operator, table, runtime)
    if looked_at is None:
        rule = "an operator is one of the operator table"
        yield Fault(rule, operator.name, operator.index, operator.name)
        return
    for rule, check in RULES:
        for tensor, found in check(looked_at):
            where = "" if tensor is None else tensor.name
            yield Fault(rule, found, operator.index, operator.name, where)
