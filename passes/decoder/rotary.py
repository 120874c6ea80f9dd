"""Rotary position embeddings: both layouts of pairs, whole heads or their first channels."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core.graph import attribute_int, constant, rank
from qcompile.passes.decoder.parts import from_op
from qcompile.passes.decoder.records import Layout, Rotary
from qcompile.passes.prepare.edit import has_input, operand


@dataclass(frozen=True, eq=False)
class Piece:
    """Some of a value's last axis: ``source[..., start:stop:step]``."""

    source: ir.Value
    start: int
    stop: int
    step: int = 1


@dataclass(frozen=True, eq=False)
class Halves:
    """The firsts and seconds of pairs of channels of ``source``, of which there are ``dims``."""

    source: ir.Value
    interleaved: bool
    dims: int


def rotary_of(value: ir.Value, layout: Layout) -> Rotary | None:
    """The rotation that makes a value, or None.

    Two spellings: ``x cos + turn(x) sin`` with ``turn`` a pair ``(-b, a)``; and the two halves
    computed apart, then put together. Where only the first channels are turned, the rest is put
    behind them.
    """
    whole = _turned(value, layout)
    if whole is not None:
        return whole
    node = from_op(value, "Concat")
    if node is None or len(node.inputs) != 2 or not _on_last(node, value):
        return None
    turned, rest = _turned(operand(node, 0), layout), piece_of(operand(node, 1))
    if turned is None or rest is None:
        return None
    first = piece_of(turned.input)
    if first is None or first.source is not rest.source or (first.start, first.step) != (0, 1):
        return None
    if first.stop != rest.start or rest.stop != _width(rest.source) or rest.step != 1:
        return None
    return Rotary(
        first.source,
        value,
        turned.cos,
        turned.sin,
        turned.interleaved,
        turned.dims,
        turned.columns,
        layout,
    )


def _turned(value: ir.Value, layout: Layout) -> Rotary | None:
    found = _by_sum(value) or _by_halves(value)
    if found is None:
        return None
    halves, cos, sin = found
    columns = _width(cos)
    if columns is None or columns != _width(sin) or columns not in (halves.dims, halves.dims // 2):
        return None
    return Rotary(halves.source, value, cos, sin, halves.interleaved, halves.dims, columns, layout)


Found = tuple[Halves, ir.Value, ir.Value]


def _by_sum(value: ir.Value) -> Found | None:
    """``x cos + turn(x) sin``."""
    node = from_op(value, "Add")
    terms = [_factors(v) for v in node.inputs] if node is not None else []
    if len(terms) != 2 or None in terms:
        return None
    for plain, turning in ((terms[0], terms[1]), (terms[1], terms[0])):
        for turned, sin in _both(turning):
            halves = _turn(turned)
            if halves is None:
                continue
            for x, cos in _both(plain):
                if x is halves.source:
                    return halves, cos, sin
    return None


def _turn(value: ir.Value) -> Halves | None:
    """The halves of x where a value is ``(-b, a)`` of its pairs ``(a, b)``."""
    pair = _joined(value)
    if pair is None:
        return None
    negated = from_op(pair[0], "Neg")
    if negated is None:
        return None
    return _halves_of(pair[1], operand(negated, 0), pair[2])


def _by_halves(value: ir.Value) -> Found | None:
    """``(a cos - b sin, b cos + a sin)``, put together."""
    pair = _joined(value)
    if pair is None:
        return None
    low, high = from_op(pair[0], "Sub"), from_op(pair[1], "Add")
    if low is None or high is None:
        return None
    terms = [_factors(v) for node in (low, high) for v in node.inputs]
    for a, cos in _both(terms[0]):
        for b, sin in _both(terms[1]):
            halves = _halves_of(a, b, pair[2])
            wanted = ({b, cos}, {a, sin})
            sums = [set(t) for t in terms[2:] if t is not None]
            if halves is not None and sums in ([*wanted], [*wanted[::-1]]):
                return halves, cos, sin
    return None


def _joined(value: ir.Value) -> tuple[ir.Value, ir.Value, bool] | None:
    """The two halves that are put together, and whether as neighbours."""
    node = from_op(value, "Concat")
    if node is not None and len(node.inputs) == 2 and _on_last(node, value):
        return operand(node, 0), operand(node, 1), False
    reshape = from_op(value, "Reshape", "Flatten")
    node = from_op(operand(reshape, 0), "Concat") if reshape is not None else None
    if node is None or len(node.inputs) != 2 or not _on_last(node, node.outputs[0]):
        return None
    parts = [from_op(v, "Unsqueeze") for v in node.inputs]
    dims = rank(node.outputs[0])
    if None in parts or dims is None or rank(value) != dims - 1:
        return None
    axes = [constant(p.inputs[1]) for p in parts if p is not None]
    if any(a is None or a.size != 1 or int(a.item()) % dims != dims - 1 for a in axes):
        return None
    first, second = (operand(p, 0) for p in parts if p is not None)
    return first, second, True


def _halves_of(first: ir.Value, second: ir.Value, interleaved: bool) -> Halves | None:
    """What the two values are the firsts and seconds of."""
    a, b = piece_of(first), piece_of(second)
    if a is None or b is None or a.source is not b.source:
        return None
    dims = _width(a.source)
    if dims is None or dims % 2:
        return None
    if interleaved:
        fits = (a.start, b.start, a.step, b.step) == (0, 1, 2, 2)
        return Halves(a.source, True, dims) if fits and min(a.stop, b.stop) >= dims - 1 else None
    wanted = ((0, dims // 2, 1), (dims // 2, dims, 1))
    fits = ((a.start, a.stop, a.step), (b.start, b.stop, b.step)) == wanted
    return Halves(a.source, False, dims) if fits else None


def piece_of(value: ir.Value) -> Piece | None:
    """A value as part of another's last axis: by Slice, Split, or one of each pair by Gather."""
    node = from_op(value, "Slice")
    if node is not None:
        return _sliced(node)
    node = from_op(value, "Split")
    if node is not None:
        return _split(node, value)
    return _of_pairs(value)


def _sliced(node: ir.Node) -> Piece | None:
    source = operand(node, 0)
    width, dims = _width(source), rank(source)
    given = [constant(v) if v is not None else None for v in node.inputs[1:]]
    if width is None or dims is None or len(given) < 3 or any(g is None for g in given):
        return None
    numbers = [int(g.reshape(-1)[0]) for g in given if g is not None and g.size == 1]
    if len(numbers) != len(given) or numbers[2] % dims != dims - 1:
        return None
    start, stop = (max(0, n + width) if n < 0 else min(n, width) for n in numbers[:2])
    step = numbers[3] if len(numbers) > 3 else 1
    return Piece(source, start, stop, step) if step > 0 else None


def _split(node: ir.Node, value: ir.Value) -> Piece | None:
    source = operand(node, 0)
    dims, width = rank(source), _width(source)
    if dims is None or width is None or attribute_int(node, "axis", 0) % dims != dims - 1:
        return None
    sizes = constant(node.inputs[1]) if has_input(node, 1) else None
    count = len(node.outputs)
    if sizes is None and width % count:
        return None
    lengths = [width // count] * count if sizes is None else [int(n) for n in sizes]
    at = list(node.outputs).index(value)
    start = sum(lengths[:at])
    return Piece(source, start, start + lengths[at])


def _of_pairs(value: ir.Value) -> Piece | None:
    """One of each pair, of ``Reshape(x, [..., d / 2, 2])``."""
    node = from_op(value, "Gather")
    if node is not None:
        index = constant(node.inputs[1])
        pairs, dims = operand(node, 0), rank(node.inputs[0])
        if index is None or index.ndim or dims is None:
            return None
        if attribute_int(node, "axis", 0) % dims != dims - 1:
            return None
        at = int(index) % 2
    else:
        node = from_op(value, "Squeeze")
        inner = piece_of(operand(node, 0)) if node is not None else None
        if inner is None or inner.stop - inner.start != 1:
            return None
        pairs, at = inner.source, inner.start
    reshape = from_op(pairs, "Reshape")
    if reshape is None or pairs.shape is None or pairs.shape[-1] != 2:
        return None
    source = operand(reshape, 0)
    width = _width(source)
    if width is None or pairs.shape[-2] != width // 2:
        return None
    return Piece(source, at, width, 2)


def _factors(value: ir.Value | None) -> tuple[ir.Value, ir.Value] | None:
    node = from_op(value, "Mul")
    return None if node is None else (operand(node, 0), operand(node, 1))


def _both(pair: tuple[ir.Value, ir.Value] | None) -> list[tuple[ir.Value, ir.Value]]:
    return [] if pair is None else [pair, (pair[1], pair[0])]


def _on_last(node: ir.Node, value: ir.Value) -> bool:
    axis, dims = attribute_int(node, "axis", 0), rank(value)
    return axis == -1 or (dims is not None and axis == dims - 1)


def _width(value: ir.Value) -> int | None:
    """The last dimension, if it is a number."""
    if value.shape is None or not len(value.shape):
        return None
    last = value.shape[-1]
    return last if isinstance(last, int) else None
