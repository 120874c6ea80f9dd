"""Plan in, look-ups out: weights that are stored as codes are looked up where they are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import along_axis, bit_width
from qcompile.core.numerics.codebook import nearest_codes
from qcompile.core.numerics.packing import pack
from qcompile.core.plan import QuantPlan, ValuePlan
from qcompile.core.stored import same_numbers

FIELDS: Final = {2: (2,), 3: (2, 1), 4: (4,), 8: (8,)}
"""Bits of a code -> those of the fields it is packed as, the lowest first: three bits are two and
one, so that they take no more than three."""


@dataclass
class StoreCodes(ir.passes.InPlacePass):
    """Write weights that are codes of a table as the operators that look them up.

    With codes c packed in bytes, levels t and a scale s a channel::

        W = t[c]          one table:          Gather(t, c)
        W = t[k, c]       one a channel k:    Gather(t, c + k * entries)
        W = s t[c]        powers of two:      Gather(t, c) * s

    1. Bytes become codes by BitShift and BitwiseAnd; codes of 8 bits are bytes already.
    2. All who read the weight read the product of these operators, subgraphs as well.
    3. A weight that is another's transpose, as a head tied to its embedding is, becomes a Transpose
       of that one's: its codes are stored once.

    All inputs of all these operators are constants: a runtime that folds constants has the floats
    when the model is loaded, and computes what it did before, in the same time and memory.

    It changes the function by the rounding of the weights. Left alone: what the plan has no levels
    for. A second run finds no such constant any more.
    """

    plan: QuantPlan

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace every weight with levels; unused float initializers are removed."""
        graph, first = model.graph, next(iter(model.graph), None)
        made: list[tuple[ValuePlan, ir.Value, np.ndarray]] = []
        for entry in self.plan.values.values():
            value = graph.initializers.get(entry.name)
            array = g.constant(value)
            if value is None or array is None or first is None or not has_levels(entry):
                continue
            if not value.uses():
                continue
            writer = _Writer(graph, entry, value, first)
            twin = next((v for e, v, a in made if _is_turned(e, a, entry, array)), None)
            weight = writer.turned(twin) if twin is not None else writer.looked_up(array)
            made.append((entry, weight, array))
            value.replace_all_uses_with(weight)
            del graph.initializers[entry.name]
        return ir.passes.PassResult(model, bool(made))


def has_levels(entry: ValuePlan) -> bool:
    """Whether a weight is stored as codes of a table."""
    return entry.params is not None and entry.params.levels is not None


def codes_of(array: np.ndarray, entry: ValuePlan) -> np.ndarray:
    """The codes of a weight, uint8 of its shape: those of the nearest levels."""
    assert entry.params is not None and entry.params.levels is not None
    scale = along_axis(entry.params.scale, entry.axis, array.ndim)
    steps = np.divide(array, scale, dtype=np.float32)
    return nearest_codes(steps, entry.params.levels, entry.axis)


def _is_turned(known: ValuePlan, array: np.ndarray, entry: ValuePlan, other: np.ndarray) -> bool:
    """Whether a matrix is the transpose of another, of the same levels and scales."""
    assert known.params is not None and entry.params is not None
    same = known.dtype == entry.dtype and known.params.same_as(entry.params)
    along = known.axis is entry.axis is None or {known.axis, entry.axis} == {0, 1}
    return same and along and array.ndim == 2 and same_numbers(array, other.T)


class _Writer:
    """Adds the operators of one weight in front of the graph."""

    def __init__(self, graph: ir.Graph, entry: ValuePlan, old: ir.Value, first: ir.Node) -> None:
        self.graph = graph
        self.entry = entry
        self.old = old
        self.first = first
        self.sources = [use.node for use in old.uses()]

    def looked_up(self, array: np.ndarray) -> ir.Value:
        """The weight as look-ups of its codes."""
        params, entry = self.entry.params, self.entry
        assert params is not None and params.levels is not None
        codes = self._cast(self._unpacked(codes_of(array, entry), bit_width(entry.dtype)))
        levels = self._constant("levels", params.levels.reshape(-1))
        if params.levels.ndim == 2:
            rows, entries = params.levels.shape
            firsts = along_axis(np.arange(rows, dtype=np.int32) * entries, entry.axis, array.ndim)
            codes = self._node("Add", codes, self._constant("firsts", firsts.astype(np.int32)))
        found = self._node("Gather", levels, codes)
        if np.any(params.scale != 1):
            scale = along_axis(params.scale, entry.axis, array.ndim).astype(np.float32)
            found = self._node("Mul", found, self._constant("scale", scale))
        return self._as_old(found)

    def turned(self, twin: ir.Value) -> ir.Value:
        """The weight as the transpose of one that is there."""
        return self._as_old(self._node("Transpose", twin, perm=[1, 0]))

    def _unpacked(self, codes: np.ndarray, bits: int) -> ir.Value:
        """uint8 codes of the weight's shape, out of packed bytes."""
        fields, whole, low = FIELDS[bits], None, 0
        for width in fields:
            part = (codes.reshape(-1) >> low) & np.uint8((1 << width) - 1)
            field = self._field(part, width)
            if low:
                field = self._node("BitShift", field, self._byte(low), direction="LEFT")
            whole = field if whole is None else self._node("BitwiseOr", whole, field)
            low += width
        assert whole is not None
        shape = self._constant("shape", np.asarray(codes.shape, np.int64))
        return self._node("Reshape", whole, shape)

    def _field(self, part: np.ndarray, width: int) -> ir.Value:
        """Packed fields of a width as uint8 (n,)."""
        packed = pack(part, width)
        if width == 8:
            return self._constant("codes", packed)
        shifts = np.arange(0, 8, width, dtype=np.uint8)
        stored = self._constant("codes", packed[:, np.newaxis])
        moved = self._node("BitShift", stored, self._constant("shifts", shifts), direction="RIGHT")
        alone = self._node("BitwiseAnd", moved, self._byte((1 << width) - 1))
        flat = self._node("Reshape", alone, self._constant("flat", np.asarray([-1], np.int64)))
        if part.size == packed.size * shifts.size:
            return flat
        ends = [np.asarray([end], np.int64) for end in (0, part.size)]
        return self._node("Slice", flat, *(self._constant("end", end) for end in ends))

    def _cast(self, codes: ir.Value) -> ir.Value:
        return self._node("Cast", codes, to=ir.DataType.INT32)

    def _byte(self, number: int) -> ir.Value:
        return self._constant("byte", np.asarray(number, np.uint8))

    def _as_old(self, value: ir.Value) -> ir.Value:
        value.shape, value.type = self.old.shape, self.old.type
        return value

    def _constant(self, what: str, array: np.ndarray) -> ir.Value:
        return g.make_initializer(self.graph, f"{self.entry.name}_{what}", array)

    def _node(
        self, op: str, *inputs: ir.Value, **attributes: int | str | Sequence[int]
    ) -> ir.Value:
        node = ir.node(op, list(inputs), dict(attributes))
        made = node.outputs[0]
        made.name = node.name = g.unique_name(self.graph, f"{self.entry.name}_{op.lower()}")
        g.inherit(node, "StoreCodes", *self.sources)
        self.graph.insert_before(self.first, node)
        return made
