"""Attention over heads, found from its Softmax: back to what makes it, on to its output."""

from dataclasses import dataclass, replace

import onnx_ir as ir

from qcompile.core.graph import attribute_int, attribute_ints, constant, rank, scalar
from qcompile.passes.decoder.parts import (
    from_op,
    linear_of,
    norm_of,
    number_and_other,
    skip_casts,
)
from qcompile.passes.decoder.records import Attention, Head, Layout, Norm
from qcompile.passes.decoder.rotary import piece_of, rotary_of
from qcompile.passes.prepare.edit import is_op, operand

SWAP = (0, 2, 1, 3)
"""Between heads second and heads third."""


class UnlikeError(Exception):
    """What a node is not; the message is one sentence."""

    def __init__(self, node: ir.Node, why: str) -> None:
        super().__init__(why)
        self.node, self.why = node, why


@dataclass(frozen=True, eq=False)
class _Side:
    """Keys or values as the attention reads them, before they are repeated."""

    cached: ir.Value
    heads: int
    size: int


def attention_of(softmax: ir.Node) -> Attention:
    """The attention that a Softmax is part of.

    Raises:
        UnlikeError: saying what is missing.
    """
    dims = rank(softmax.outputs[0])
    if dims != 4 or attribute_int(softmax, "axis", -1) not in (-1, 3):
        raise UnlikeError(softmax, "it is not over the last of four axes")
    product, scale, mask = _scores(softmax)
    query, by_query = _scaled(operand(product, 0))
    key, key_layout, by_key = _keys(product)
    shape = None if query.shape is None else list(query.shape)
    if shape is None or not isinstance(shape[1], int) or not isinstance(shape[3], int):
        raise UnlikeError(product, "the number of heads and their size are not known")
    heads, size = shape[1], shape[3]
    keys = _shared(product, key, heads, size, key_layout)
    read, values = _values(softmax, heads)
    if keys.heads != values.heads:
        raise UnlikeError(
            product, f"there are {keys.heads} heads of keys and {values.heads} of values"
        )
    output = _merged(read, heads * values.size)
    return Attention(
        softmax,
        _head(query, "bhsd", cached=False),
        _head(keys.cached, key_layout, cached=True),
        _head(values.cached, "bhsd", cached=True),
        scale * by_query * by_key,
        mask,
        heads,
        keys.heads,
        size,
        output,
    )


def _scores(softmax: ir.Node) -> tuple[ir.Node, float, ir.Value | None]:
    """The product of queries and keys, what it is multiplied by, and the mask that is added."""
    value, scale, mask = skip_casts(operand(softmax, 0)), 1.0, None
    while True:
        node = from_op(value, "MatMul", "Mul", "Div", "Add", "Where", "Tanh")
        if node is None:
            raise UnlikeError(softmax, "its input is no product of queries and keys")
        if is_op(node, "MatMul"):
            return node, scale, mask
        if is_op(node, "Tanh", "Where"):
            raise UnlikeError(softmax, f"its scores pass a {node.op_type}")
        if is_op(node, "Add"):
            value, added = _scores_of_sum(node)
            if mask is not None or scale != 1.0:
                raise UnlikeError(softmax, "its mask is scaled, or there are two")
            mask = added
        else:
            value, factor = _scaled_once(node)
            scale *= factor
        value = skip_casts(value)


def _scores_of_sum(node: ir.Node) -> tuple[ir.Value, ir.Value]:
    """The operand of ``scores + mask`` that holds the scores, and the other."""
    for at, other in ((0, 1), (1, 0)):
        value = skip_casts(operand(node, at))
        made = from_op(value, "MatMul", "Mul", "Div")
        while made is not None and is_op(made, "Mul", "Div"):
            found = number_and_other(made)
            made = None if found is None else from_op(skip_casts(found[1]), "MatMul", "Mul", "Div")
        if made is not None:
            return value, operand(node, other)
    raise UnlikeError(node, "neither operand is a product of queries and keys")


def _scaled_once(node: ir.Node) -> tuple[ir.Value, float]:
    found = number_and_other(node)
    if found is None:
        raise UnlikeError(node, "scores are multiplied by what is computed")
    number, value = found
    return value, 1 / number if is_op(node, "Div") else number


def _scaled(value: ir.Value) -> tuple[ir.Value, float]:
    """A value before constant factors, and those."""
    factor = 1.0
    while True:
        node = from_op(value, "Mul", "Div")
        found = number_and_other(node) if node is not None else None
        if node is None or found is None:
            return value, factor
        factor *= 1 / found[0] if is_op(node, "Div") else found[0]
        value = found[1]


def _keys(product: ir.Node) -> tuple[ir.Value, Layout, float]:
    """The keys, their layout, and the constant that they are multiplied by."""
    value, factor = _scaled(operand(product, 1))
    node = from_op(value, "Transpose")
    layouts: dict[tuple[int, ...], Layout] = {(0, 1, 3, 2): "bhsd", (0, 2, 3, 1): "bshd"}
    layout = layouts.get(attribute_ints(node, "perm")) if node is not None else None
    if node is not None and layout is not None:
        inner, more = _scaled(operand(node, 0))
        return inner, layout, factor * more
    flat = _flat_transpose(value)
    if flat is None:
        raise UnlikeError(product, "its second operand is no transpose of keys")
    inner, more = _scaled(flat)
    return inner, "bhsd", factor * more


def _flat_transpose(value: ir.Value) -> ir.Value | None:
    """The x of ``Reshape(Transpose(Reshape(x, [-1, s, d])), [b, h, d, s])``."""
    last = from_op(value, "Reshape")
    node = from_op(operand(last, 0), "Transpose") if last is not None else None
    if node is None or attribute_ints(node, "perm") != (0, 2, 1):
        return None
    first = from_op(operand(node, 0), "Reshape")
    if first is None:
        return None
    x, flat, shape = operand(first, 0), first.outputs[0].shape, value.shape
    if x.shape is None or flat is None or shape is None or len(x.shape) != 4 or len(shape) != 4:
        return None
    size = x.shape[3]
    kept = isinstance(size, int) and flat[2] == size and shape[2] == size
    return x if kept and shape[1] == x.shape[1] else None


def _values(softmax: ir.Node, heads: int) -> tuple[ir.Node, _Side]:
    """The product of probabilities and values, and the values."""
    value = softmax.outputs[0]
    while True:
        users = [u.node for u in value.uses()]
        product = next((n for n in users if is_op(n, "MatMul") and n.inputs[0] is value), None)
        if product is not None:
            break
        step = next((n for n in users if is_op(n, "Cast", "Dropout", "Where", "Identity")), None)
        if step is None:
            raise UnlikeError(softmax, "no product reads its probabilities")
        value = step.outputs[0]
    read = operand(product, 1)
    width = None if read.shape is None else read.shape[3]
    if not isinstance(width, int):
        raise UnlikeError(product, "the size of its values is not known")
    return product, _shared(product, read, heads, width)


def _shared(
    product: ir.Node, value: ir.Value, heads: int, size: int, layout: Layout = "bhsd"
) -> _Side:
    """Keys or values before they are repeated for the heads that share them."""
    inner = _repeated(value) if layout == "bhsd" else value
    count = inner.shape[layout.index("h")] if rank(inner) == 4 and inner.shape else None
    if not isinstance(count, int) or inner.shape is None:
        raise UnlikeError(product, "the number of heads of keys or values is not known")
    if heads % count or inner.shape[3] != size:
        raise UnlikeError(product, f"{count} heads of keys or values do not fit {heads} of queries")
    return _Side(inner, count, size)


def _repeated(value: ir.Value) -> ir.Value:
    """The x of ``Reshape(Expand(Unsqueeze(x, 2)))``: each head several times, side by side."""
    reshape = from_op(value, "Reshape")
    expand = from_op(operand(reshape, 0), "Expand", "Tile") if reshape is not None else None
    wide = from_op(operand(expand, 0), "Unsqueeze", "Reshape") if expand is not None else None
    if expand is None or wide is None:
        return value
    inner, new = operand(wide, 0), wide.outputs[0].shape
    if rank(inner) != 4 or new is None or len(new) != 5 or new[2] != 1:
        return value
    if is_op(wide, "Unsqueeze"):
        axes = constant(wide.inputs[1])
        if axes is None or axes.size != 1 or int(axes.reshape(-1)[0]) not in (2, -3):
            return value
    elif inner.shape is None or new[1] != inner.shape[1] or new[4] != inner.shape[3]:
        return value
    out, shape = expand.outputs[0].shape, inner.shape
    kept = out is not None and shape is not None and out[1] == shape[1] and out[4] == shape[3]
    return inner if kept else value


def _merged(product: ir.Node, width: int) -> ir.Value:
    """The heads side by side, behind the attention."""
    swapped = next((u.node for u in product.outputs[0].uses() if is_op(u.node, "Transpose")), None)
    if swapped is None or attribute_ints(swapped, "perm") != SWAP:
        raise UnlikeError(product, "its heads are not put side by side")
    for use in swapped.outputs[0].uses():
        out = use.node.outputs[0]
        if is_op(use.node, "Reshape") and out.shape is not None and out.shape[-1] == width:
            return out
    raise UnlikeError(product, "its heads are not put side by side")


def _head(value: ir.Value, layout: Layout, *, cached: bool) -> Head:
    """Queries, keys or values, from the attention back to the layer that makes them."""
    past, present = None, None
    if cached and layout == "bhsd":
        past, value, present = _cache(value)
    made, made_layout = value, layout
    rotary = rotary_of(value, layout)
    if rotary is None:
        node = from_op(value, "Transpose")
        if node is not None and attribute_ints(node, "perm") == SWAP:
            rotary = rotary_of(operand(node, 0), _other(layout))
    if rotary is not None:
        value, layout = rotary.input, rotary.layout
    return replace(
        _projected(value, layout),
        rotary=rotary,
        made=made,
        made_layout=made_layout,
        past=past,
        present=present,
    )


def _other(layout: Layout) -> Layout:
    return "bshd" if layout == "bhsd" else "bhsd"


def _cache(value: ir.Value) -> tuple[ir.Value | None, ir.Value, ir.Value | None]:
    """The cache that a value begins with, the rest, and the value if the graph hands it back."""
    node = from_op(value, "Concat")
    if node is None or len(node.inputs) != 2 or attribute_int(node, "axis", 0) not in (2, -2):
        return None, value, _handed_back(value)
    past = operand(node, 0)
    if not past.is_graph_input():
        return None, value, None
    return past, operand(node, 1), _handed_back(value)


def _handed_back(value: ir.Value) -> ir.Value | None:
    if value.is_graph_output():
        return value
    copies = (u.node.outputs[0] for u in value.uses() if is_op(u.node, "Identity"))
    return next((copy for copy in copies if copy.is_graph_output()), None)


def _projected(value: ir.Value, layout: Layout) -> Head:
    """Where heads come from: the layer, a norm over single heads behind it."""
    norm = _head_norm(value)
    projected, at = value, norm.input if norm is not None else value
    while True:
        node = from_op(at, "Transpose", "Reshape", "Identity", "Unsqueeze", "Squeeze")
        if node is None:
            piece = piece_of(at)
            if piece is None:
                break
            at = piece.source
            continue
        at = operand(node, 0)
        if norm is None and (norm := _head_norm(at)) is not None:
            at = norm.input
    return Head(linear_of(at), norm, projected, layout, None, value, layout, None, None)


def _head_norm(value: ir.Value) -> Norm | None:
    return norm_of(value) if rank(value) == 4 else None


def is_causal(mask: ir.Value | None) -> bool:
    """Whether a mask seems to keep tokens from seeing those behind them.

    It does so by a triangle (Trilu, or a constant one) or by comparing positions that it counts
    itself. What a graph really masks is only known when it is run.
    """
    found = ancestors(mask)
    triangles = (n for n in found if is_op(n, "Trilu"))
    compared = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual")
    both = (n for n in found if is_op(n, *compared) and all(_counts(v) for v in n.inputs))
    if next(triangles, None) is not None or next(both, None) is not None:
        return True
    read = [v for n in found for v in n.inputs] + [mask]
    return any(_is_triangle(v) for v in read if v is not None)


def ancestors(value: ir.Value | None) -> list[ir.Node]:
    """All nodes that a value is made by, itself and upwards."""
    found: dict[ir.Node, None] = {}
    todo = [value]
    while todo:
        value = todo.pop()
        node = value.producer() if value is not None else None
        if node is not None and node not in found:
            found[node] = None
            todo.extend(node.inputs)
    return list(found)


def _counts(value: ir.Value | None) -> bool:
    """Whether a value is made of positions: Range or CumSum somewhere behind it, or constants."""
    return any(is_op(n, "Range", "CumSum") for n in ancestors(value)) or scalar(value) is not None


def _is_triangle(value: ir.Value) -> bool:
    array = constant(value)
    if array is None or array.ndim < 2 or min(array.shape[-2:]) < 2 or array.size > 1 << 26:
        return False
    if array.shape[-1] != array.shape[-2]:
        return False
    square = array.reshape(-1, *array.shape[-2:])[0]
    return bool(square[0, 1] != square[0, 0]) and bool((square[-1] == square[-1, 0]).all())
