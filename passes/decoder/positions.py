"""The positions that a rotation turns by, and its angles as a table over all of them."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import constant, make_initializer, rank
from qcompile.passes.decoder.parts import from_op
from qcompile.passes.decoder.records import Rotary
from qcompile.passes.prepare.edit import insert, is_constant, is_op, operand

NAME: Final = "FuseAttention"

_ANGLES: Final = (
    "Cos",
    "Sin",
    "Concat",
    "Mul",
    "Div",
    "MatMul",
    "Transpose",
    "Unsqueeze",
    "Identity",
    "Cast",
    "Expand",
    "Reshape",
)
"""What may stand between positions and their cosines, all its other operands constant."""


@dataclass(frozen=True, eq=False)
class Positions:
    """Where the tokens are: what is counted, and how it becomes the angles."""

    source: ir.Value
    """Whole numbers: (batch, sequence), (1, sequence) or (sequence,)."""
    cast: ir.Node
    """Makes floats of them, as (..., sequence, ...)."""
    axis: int
    """That of the sequence behind the cast."""


def positions_of(rotary: Rotary) -> Positions | None:
    """The positions behind a rotation's cosines and sines; None where they are more than that."""
    casts = {cast for v in (rotary.cos, rotary.sin) for cast in _casts(v)}
    if len(casts) != 1 or None in casts:
        return None
    cast = casts.pop()
    assert cast is not None
    source = operand(cast, 0)
    if source.shape is None:
        return None
    added = [False] * len(source.shape)
    while (node := from_op(source, "Unsqueeze")) is not None:
        axes = constant(node.inputs[1])
        if axes is None:
            return None
        new = {int(a) % rank_of(source) for a in axes.reshape(-1)}
        places = [i for i, is_new in enumerate(added) if not is_new]
        for at in new:
            added[places[at]] = True
        source = operand(node, 0)
        if source.shape is None:
            return None
    axis = max((i for i, is_new in enumerate(added) if not is_new), default=-1)
    return Positions(source, cast, axis) if axis >= 0 and rank(source) in (1, 2) else None


def rank_of(value: ir.Value) -> int:
    """The number of dimensions of a value whose shape is known."""
    assert value.shape is not None
    return len(value.shape)


def _casts(value: ir.Value) -> list[ir.Node | None]:
    """The casts of whole numbers behind a value; None among them for whatever else is behind it."""
    if is_constant(value):
        return []
    node = value.producer()
    if node is None or not is_op(node, *_ANGLES):
        return [None]
    if is_op(node, "Cast"):
        source = operand(node, 0)
        if source.dtype is not None and source.dtype.is_integer():
            return [node]
    if is_op(node, "Expand", "Reshape"):  # of a constant, to the batch; of angles not
        return [] if is_constant(operand(node, 0)) and is_op(node, "Expand") else [None]
    return [cast for v in node.inputs if v is not None for cast in _casts(v)]


def table(
    rotary: Rotary, positions: Positions, rows: int, before: ir.Node
) -> tuple[ir.Value, ir.Value]:
    """Cosines and sines of the positions 0 to ``rows`` - 1, each (rows, dims / 2).

    The graph's own operators make them, with all positions in the place of those of the tokens:
    the numbers are the same to the last bit. Nothing but constants goes in, so runtimes fold them
    when they load the graph.

    Args:
        rotary: whose angles.
        positions: of that rotation.
        rows: how many positions.
        before: the node in front of which the operators are put.
    """
    copies = _Copies(positions, rows, before)
    cos, sin = (copies.of(value) for value in (rotary.cos, rotary.sin))
    return tuple(copies.columns(v, rotary) for v in (cos, sin))  # type: ignore[return-value]


class _Copies:
    """Copies of the operators between positions and angles, for all positions."""

    def __init__(self, positions: Positions, rows: int, before: ir.Node) -> None:
        self.positions, self.rows, self.before = positions, rows, before
        self.made: dict[ir.Value, ir.Value] = {}

    def of(self, value: ir.Value) -> ir.Value:
        """The copy of a value."""
        if is_constant(value):
            return value
        if value not in self.made:
            self.made[value] = self._copy(value)
        return self.made[value]

    def _copy(self, value: ir.Value) -> ir.Value:
        node = value.producer()
        assert node is not None
        if node is self.positions.cast:
            return self._counted(value)
        if is_op(node, "Expand"):
            return operand(node, 0)
        inputs = [None if v is None else self.of(v) for v in node.inputs]
        copy = self._insert(node.op_type, inputs, f"{value.name}.all", value)
        maker = copy.producer()
        assert maker is not None
        for name, attribute in node.attributes.items():
            maker.attributes[name] = attribute
        return copy

    def _counted(self, value: ir.Value) -> ir.Value:
        graph = self.before.graph
        assert isinstance(graph, ir.Graph)
        ends = [
            make_initializer(graph, f"{value.name}.{n}", np.array(n)) for n in (0, self.rows, 1)
        ]
        counted = self._insert("Range", ends, f"{value.name}.range", value)
        counted.type = ir.TensorType(ir.DataType.INT64)
        dims = [1] * rank_of(value)
        dims[self.positions.axis] = self.rows
        shape = make_initializer(graph, f"{value.name}.shape", np.array(dims, np.int64))
        spread = self._insert("Reshape", [counted, shape], f"{value.name}.spread", value)
        spread.type = counted.type
        cast = self._insert("Cast", [spread], f"{value.name}.all", value)
        maker = cast.producer()
        assert maker is not None
        maker.attributes["to"] = self.positions.cast.attributes["to"]
        return cast

    def columns(self, value: ir.Value, rotary: Rotary) -> ir.Value:
        """An angle's function as (rows, dims / 2): one column a pair."""
        graph = self.before.graph
        assert isinstance(graph, ir.Graph)

        def number(*of: int) -> ir.Value:
            return make_initializer(graph, f"{value.name}.number", np.array(of, np.int64))

        flat = self._insert(
            "Reshape", [value, number(self.rows, rotary.columns)], f"{value.name}.rows", value
        )
        half = rotary.dims // 2
        if rotary.columns != half:
            step = 2 if rotary.interleaved else 1
            stop = rotary.dims if rotary.interleaved else half
            inputs = [flat, number(0), number(stop), number(1), number(step)]
            flat = self._insert("Slice", inputs, f"{value.name}.pairs", value)
        flat.shape = ir.Shape([self.rows, half])
        return flat

    def _insert(
        self,
        op_type: str,
        inputs: list[ir.Value | None] | list[ir.Value],
        name: str,
        like: ir.Value,
    ) -> ir.Value:
        made = insert(self.before, op_type, list(inputs), name, NAME, like=like)
        made.shape = None
        return made
