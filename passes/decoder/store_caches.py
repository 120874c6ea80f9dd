"""Caches of a decoder in 4 or 2 bits by plain operators, packed into bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import inherit, make_initializer, unique_name, unique_node_name
from qcompile.passes.decoder.find import find_decoder
from qcompile.passes.decoder.records import Decoder, Head, unlike_values
from qcompile.passes.prepare.edit import Attribute

NAME: Final = "StoreCaches"
FIRST: Final = 4
"""Tokens at the beginning that stay floats: all later ones look at them (attention sinks)."""
RECENT: Final = 32
"""Tokens at the end that stay floats."""
GROUP: Final = 32
"""Channels of a value that share a scale."""
TINY: Final = 2.0**-14
"""Smallest step of a group of a value: the smallest that float16 holds in full."""


@dataclass(frozen=True, eq=False)
class KeyGrid:
    """What codes of keys stand for: ``lowest + code * step``, float32 (kv_heads * head_size,)."""

    lowest: np.ndarray
    step: np.ndarray


@dataclass(frozen=True)
class StoreCaches(ir.passes.InPlacePass):
    """Store keys and values of a decoder in few bits, between one run and the next.

    As KIVI has it (Liu et al., 2024), keys on a grid a channel and values on one a token:

    1. A cache input of floats becomes codes (uint8, ``8 / bits`` numbers a byte, the first lowest),
       and beside it ``*_exact``: the first ``FIRST`` and the last ``RECENT`` tokens as floats. What
       read the cache reads the first exact tokens, the decoded ones and the other exact ones, in
       the order of the text.
    2. A cache output likewise: of the exact tokens and the new ones, those that are neither first
       nor recent any more are encoded and put behind the codes.
    3. Keys: ``code = clip(round((k - lowest) / step), 0, 2^bits - 1)``, grids from calibration
       (KVQuant, Hooper et al., 2024), half to even. Values: ``GROUP`` channels of a token (all of
       a head where that does not divide it) have ``lowest`` and ``step = (highest - lowest) /
       (2^bits - 1)`` of their own, float16 in ``*_scale``; codes are those of the rounded two.

    New tokens are read as floats by the run that brings them: a prompt is computed exactly, and
    what is stored matters from the next run on. ``keys``: name of the output -> grid. All caches of
    a decoder or none. Does not keep the float function.
    """

    bits: Literal[4, 2]
    keys: Mapping[str, KeyGrid] = field(default_factory=dict)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        decoder = find_decoder(model.graph)
        if decoder is None or why_not_stored(decoder, self.bits):
            return ir.passes.PassResult(model, modified=False)
        names = {_name(layer.attention.key.present) for layer in decoder.layers}
        if not names <= self.keys.keys():
            return ir.passes.PassResult(model, modified=False)
        storing = _Storing(self, model.graph, decoder)
        for layer in decoder.layers:
            storing.store(layer.attention.key, self.keys[_name(layer.attention.key.present)])
            storing.store(layer.attention.value, None)
        return ir.passes.PassResult(model, modified=True)


def why_not_stored(decoder: Decoder, bits: int) -> str:
    """Why caches of a decoder cannot be stored so; empty where they can."""
    if not decoder.has_cache:
        return "the model has no cache"
    if decoder.head_size % (8 // bits):
        return f"heads of {decoder.head_size} channels do not fill bytes with {bits} bits each"
    return next(filter(None, (unlike_values(layer.attention) for layer in decoder.layers)), "")


def value_groups(size: int) -> int:
    """Groups of a value's channels that have scales of their own."""
    return size // GROUP if size % GROUP == 0 else 1


def token_bytes(decoder: Decoder, bits: int) -> int:
    """Bytes that one more token takes in all caches once it is neither first nor recent."""
    codes = decoder.head_size * bits // 8
    scales = 2 * 2 * value_groups(decoder.head_size)
    return len(decoder.layers) * decoder.kv_heads * (2 * codes + scales)


def exact_bytes(decoder: Decoder) -> int:
    """Bytes of the tokens that stay floats, in all caches."""
    size = 4 * decoder.head_size * (FIRST + RECENT)
    return 2 * len(decoder.layers) * decoder.kv_heads * size


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""


class _Storing:
    """The edits of one graph. Operators that read caches go to its beginning, others to its end."""

    def __init__(self, step: StoreCaches, graph: ir.Graph, decoder: Decoder) -> None:
        self.graph, self.decoder, self.bits = graph, decoder, step.bits
        self.per_byte = 8 // step.bits
        self.at_end = False
        self.source: ir.Node | None = None
        self.first = next(iter(graph))
        self.numbers: dict[tuple[str, bytes], ir.Value] = {}

    def store(self, head: Head, grid: KeyGrid | None) -> None:
        """Replace both ends of one cache."""
        past, present = head.past, head.present
        assert past is not None
        assert present is not None
        self.source = present.producer()
        before, after = _name(past), _name(present)
        readers = [(use.node, use.idx) for use in past.uses()]
        codes = self._input(
            past, before, ir.DataType.UINT8, self.decoder.head_size // self.per_byte
        )
        exact = self._input(past, f"{before}_exact", ir.DataType.FLOAT, self.decoder.head_size)
        scale, width = None, 2 * value_groups(self.decoder.head_size)
        if grid is None:
            scale = self._input(past, f"{before}_scale", ir.DataType.FLOAT16, width)
        self.at_end = False
        decoded = self._decode(codes, scale, grid)
        pieces = [self._slice(exact, 0, FIRST), decoded, self._slice(exact, FIRST, None)]
        whole = self._op("Concat", pieces, f"{before}.whole", axis=2)
        for node, index in readers:
            node.replace_input_with(index, whole)
        self.graph.inputs[list(self.graph.inputs).index(past)] = codes
        self._outputs(head, codes, exact, scale, grid, after)

    def _outputs(
        self,
        head: Head,
        codes: ir.Value,
        exact: ir.Value,
        scale: ir.Value | None,
        grid: KeyGrid | None,
        name: str,
    ) -> None:
        """Hand back what is exact from now on, and the codes of what no longer is."""
        present = head.present
        assert present is not None
        self.at_end = True
        new = head.made
        if head.made_layout != "bhsd":
            new = self._op("Transpose", [new], f"{name}.new", perm=[0, 2, 1, 3])
        loose = self._op("Concat", [exact, new], f"{name}.loose", axis=2)
        length = self._op("Shape", [loose], f"{name}.length", start=2, end=3)
        beyond = self._op("Sub", [length, self._ints(FIRST + RECENT)], f"{name}.beyond")
        moved = self._op("Max", [beyond, self._ints(0)], f"{name}.moved")
        end = self._op("Add", [moved, self._ints(FIRST)], f"{name}.end")
        leaving = self._slice(loose, FIRST, end)
        kept = [self._slice(loose, 0, FIRST), self._slice(loose, end, None)]
        added, added_scale = self._encode(leaving, grid)
        made = [self._op("Concat", [codes, added], f"{name}.codes", axis=2)]
        ends = [(made[0], codes, name)]
        if scale is not None and added_scale is not None:
            grown = self._op("Concat", [scale, added_scale], f"{name}.scales", axis=2)
            ends.append((grown, scale, f"{name}_scale"))
        staying = self._op("Concat", kept, f"{name}.kept", axis=2)
        ends.insert(1, (staying, exact, f"{name}_exact"))
        present.name = unique_name(self.graph, f"{name}.floats")
        place = list(self.graph.outputs).index(present)
        for value, like, called in ends:
            value.name, value.type = called, like.type
            dims = [*(like.shape or ())]
            dims[2] = None if called != name else dims[2]
            value.shape = ir.Shape([dims[0], dims[1], f"{called}.tokens", dims[3]])
            if called == name:
                self.graph.outputs[place] = value
            else:
                self.graph.outputs.append(value)

    def _input(self, past: ir.Value, name: str, kind: ir.DataType, width: int) -> ir.Value:
        """A new graph input in the place of the cache, or behind all others."""
        dims = list(past.shape or (None,) * 4)
        shape = ir.Shape([dims[0], dims[1], f"{name}.tokens", width])
        made = ir.Value(name=name, type=ir.TensorType(kind), shape=shape)
        if name == past.name:
            past.name = unique_name(self.graph, f"{name}.floats")
        else:
            self.graph.inputs.append(made)
        return made

    # --- numbers and codes ---------------------------------------------------------------------

    def _decode(self, codes: ir.Value, scale: ir.Value | None, grid: KeyGrid | None) -> ir.Value:
        """Floats (batch, kv_heads, tokens, head_size) of codes."""
        name = _name(codes)
        shifts = np.arange(self.per_byte, dtype=np.uint8) * np.uint8(self.bits)
        wide = self._op("Unsqueeze", [codes, self._ints(-1)], f"{name}.wide")
        moved = self._op(
            "BitShift", [wide, self._const(shifts)], f"{name}.moved", direction="RIGHT"
        )
        mask = self._const(np.array(2**self.bits - 1, np.uint8))
        numbers = self._op("BitwiseAnd", [moved, mask], f"{name}.numbers")
        shape = self._shape_like(codes, self.decoder.head_size)
        flat = self._op("Reshape", [numbers, shape], f"{name}.flat", allowzero=1)
        floats = self._op("Cast", [flat], f"{name}.decoded", to=int(ir.DataType.FLOAT))
        if grid is not None:
            return self._affine(floats, self._channels(grid.step), self._channels(grid.lowest))
        assert scale is not None
        lowest, step = self._scales(scale)
        grouped = self._grouped(floats)
        return self._ungrouped(self._affine(grouped, step, lowest))

    def _encode(self, numbers: ir.Value, grid: KeyGrid | None) -> tuple[ir.Value, ir.Value | None]:
        """Packed codes of floats, and with values their scales."""
        name = _name(numbers)
        if grid is not None:
            lowest, step, scale = self._channels(grid.lowest), self._channels(grid.step), None
        else:
            numbers = self._grouped(numbers)
            scale = self._own_scales(numbers)
            lowest, step = self._scales(scale)
        above = self._op("Sub", [numbers, lowest], f"{name}.above")
        steps = self._op("Round", [self._op("Div", [above, step], f"{name}.steps")], f"{name}.near")
        ends = [self._const(np.array(n, np.float32)) for n in (0, 2**self.bits - 1)]
        codes = self._op("Clip", [steps, *ends], f"{name}.clipped")
        if grid is None:
            codes = self._ungrouped(codes)
        shape = self._shape_like(codes, self.decoder.head_size // self.per_byte, self.per_byte)
        pairs = self._op("Reshape", [codes, shape], f"{name}.bytes", allowzero=1)
        places = self._const(2.0 ** (self.bits * np.arange(self.per_byte, dtype=np.float32)))
        placed = self._op("Mul", [pairs, places], f"{name}.placed")
        summed = self._op("ReduceSum", [placed, self._ints(-1)], f"{name}.sum", keepdims=0)
        return self._op("Cast", [summed], f"{name}.packed", to=int(ir.DataType.UINT8)), scale

    def _own_scales(self, grouped: ir.Value) -> ir.Value:
        """float16 (batch, kv_heads, tokens, 2 * groups): the lowest of each group, then steps."""
        name = _name(grouped)
        low = self._op("ReduceMin", [grouped, self._ints(-1)], f"{name}.low", keepdims=0)
        high = self._op("ReduceMax", [grouped, self._ints(-1)], f"{name}.high", keepdims=0)
        reach = self._op("Sub", [high, low], f"{name}.reach")
        codes = self._const(np.array(2**self.bits - 1, np.float32))
        step = self._op("Div", [reach, codes], f"{name}.step")
        step = self._op("Max", [step, self._const(np.array(TINY, np.float32))], f"{name}.least")
        both = self._op("Concat", [low, step], f"{name}.both", axis=-1)
        return self._op("Cast", [both], f"{name}.scale", to=int(ir.DataType.FLOAT16))

    def _scales(self, scale: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Lowest and step of stored scales, as floats (batch, kv_heads, tokens, groups, 1)."""
        name, groups = _name(scale), value_groups(self.decoder.head_size)
        floats = self._op("Cast", [scale], f"{name}.floats", to=int(ir.DataType.FLOAT))
        parts = [
            self._slice(floats, at, at + groups, axis=3, name=f"{name}.{what}")
            for what, at in (("lowest", 0), ("step", groups))
        ]
        wide = [self._op("Unsqueeze", [v, self._ints(-1)], f"{name}.wide") for v in parts]
        return wide[0], wide[1]

    def _grouped(self, numbers: ir.Value) -> ir.Value:
        groups = value_groups(self.decoder.head_size)
        shape = self._shape_like(numbers, groups, self.decoder.head_size // groups)
        return self._op("Reshape", [numbers, shape], f"{_name(numbers)}.grouped", allowzero=1)

    def _ungrouped(self, numbers: ir.Value) -> ir.Value:
        shape = self._shape_like(numbers, self.decoder.head_size)
        return self._op("Reshape", [numbers, shape], f"{_name(numbers)}.heads", allowzero=1)

    def _affine(self, codes: ir.Value, step: ir.Value, lowest: ir.Value) -> ir.Value:
        scaled = self._op("Mul", [codes, step], f"{_name(codes)}.scaled")
        return self._op("Add", [scaled, lowest], f"{_name(codes)}.value")

    def _channels(self, numbers: np.ndarray) -> ir.Value:
        return self._const(numbers.astype(np.float32).reshape(1, self.decoder.kv_heads, 1, -1))

    # --- small parts ---------------------------------------------------------------------------

    def _shape_like(self, value: ir.Value, *last: int) -> ir.Value:
        """Batch, heads and tokens of a value, then these numbers."""
        name = _name(value)
        lead = self._op("Shape", [value], f"{name}.lead", start=0, end=3)
        return self._op("Concat", [lead, self._ints(*last)], f"{name}.shape", axis=0)

    def _slice(
        self,
        value: ir.Value,
        start: int | ir.Value,
        end: int | ir.Value | None,
        *,
        axis: int = 2,
        name: str = "",
    ) -> ir.Value:
        first = self._ints(start) if isinstance(start, int) else start
        last = end if isinstance(end, ir.Value) else self._ints(1 << 62 if end is None else end)
        inputs = [value, first, last, self._ints(axis)]
        return self._op("Slice", inputs, name or f"{_name(value)}.part")

    def _ints(self, *numbers: int) -> ir.Value:
        return self._const(np.array(numbers, np.int64))

    def _const(self, array: np.ndarray) -> ir.Value:
        key = f"{array.dtype}{array.shape}", array.tobytes()
        if key not in self.numbers:
            self.numbers[key] = make_initializer(self.graph, "caches.number", array)
        return self.numbers[key]

    def _op(
        self, op_type: str, inputs: Sequence[ir.Value], name: str, **attributes: Attribute
    ) -> ir.Value:
        output = ir.Value(name=unique_name(self.graph, name))
        node = ir.node(op_type, inputs, attributes, outputs=[output])
        node.name = unique_node_name(self.graph, f"{name}.{op_type}")
        if self.source is not None:
            inherit(node, NAME, self.source)
        if self.at_end:
            self.graph.append(node)
        else:
            self.graph.insert_before(self.first, node)
        return output
