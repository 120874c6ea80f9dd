"""Rotation, cache and attention of a decoder's blocks become one operator of the runtime."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import inherit, make_initializer, rank, unique_name, unique_node_name
from qcompile.passes.decoder.find import find_decoder
from qcompile.passes.decoder.parts import from_op
from qcompile.passes.decoder.past_length import count_by_mask, mask_input
from qcompile.passes.decoder.positions import NAME, Positions, positions_of, table
from qcompile.passes.decoder.records import (
    Attention,
    Decoder,
    Head,
    Layer,
    Layout,
    Rotary,
    unlike_values,
)
from qcompile.passes.prepare.edit import graph_of, insert, operand, prune

DOMAIN: Final = "com.microsoft"
POSITIONS: Final = 8192
"""How many positions the tables of angles hold, where nobody says."""


@dataclass(frozen=True, eq=False)
class StoredCache:
    """How the operator stores keys or values: ``round(x / scale)`` in so many bits."""

    bits: Literal[8, 4]
    scale: np.ndarray
    """float32, of shape () or (kv_heads * head_size,)."""


@dataclass(frozen=True)
class FuseAttention(ir.passes.InPlacePass):
    """Write the attentions of a decoder as ``com.microsoft.GroupQueryAttention``.

    With ``R`` the rotation, ``K`` the past keys and the new ones behind them, ``V`` alike::

        softmax(scale * R(q) [K_past, R(k)]^T + mask) [V_past, v]

    1. Queries, keys and values are handed over as their layers make them, (batch, sequence, heads
       * size); the operator rotates, by tables over ``positions`` positions that the graph's own
       operators make (bit for bit) and the positions the graph counts. Where the angles do not
       depend on positions alone, or there are no pairs of eight channels, it does not rotate, and
       the graph's own operators do.
    2. The graph's mask is handed over as it is (``attention_bias``), so padding on either side,
       windows and whatever else it leaves out stay as they are; the operator adds that no token
       sees those behind it, which such a mask says already.
    3. Cache inputs and outputs keep names and shapes. What ``stored`` names (by the output) is
       stored as integers instead: inputs and outputs become int8, or uint8 of half the size with
       two numbers a byte. A decoder without a cache gets an empty one.
    4. Where the graph asks for the length of a cache, the lengths of mask and tokens answer: it may
       be handed over at its full length, to be written in place.

    All attentions or none: they must be those of a ``Decoder`` (``why_not_fused``), nothing in
    between may be read elsewhere. Keeps the float function for tokens that are not masked, as long
    as nothing is stored in integers; positions must be fewer than ``positions``, else the runtime
    refuses.
    """

    positions: int = POSITIONS
    stored: Mapping[str, StoredCache] = field(default_factory=dict)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        decoder = find_decoder(model.graph)
        if decoder is None or why_not_fused(decoder):
            return ir.passes.PassResult(model, modified=False)
        mask = mask_input(model.graph, decoder)
        _Fusing(self, model.graph, decoder).run()
        if mask is not None:
            count_by_mask(model.graph, decoder, mask)
        model.opset_imports.setdefault(DOMAIN, 1)
        return ir.passes.PassResult(model, modified=True)


def why_not_fused(decoder: Decoder) -> str:
    """Why attentions of a decoder cannot be written as one operator; empty where they can."""
    for layer in decoder.layers:
        attention = layer.attention
        name = attention.softmax.name
        if attention.head_size % 8:
            return f"{name}: the operator takes heads of a multiple of 8, not {attention.head_size}"
        if why := unlike_values(attention):
            return f"{name}: {why}, and the operator takes one size"
        if rank(attention.mask) not in (2, 3, 4):
            return f"{name}: the axes of its mask are not known"
        for head in (attention.key, attention.value):
            if head.past is None and _hands_back_else(head):
                return f"{name}: its cache is not put in front of new tokens along the third axis"
    return ""


def _hands_back_else(head: Head) -> bool:
    """Whether keys or values seem to have a cache that is kept in another way."""
    node = from_op(head.made, "Concat", "ScatterND", "ScatterElements")
    return node is not None and any(v is not None and v.is_graph_input() for v in node.inputs)


class _Fusing:
    """The edits of one graph; what the layers share is made once."""

    def __init__(self, step: FuseAttention, graph: ir.Graph, decoder: Decoder) -> None:
        self.step, self.graph, self.decoder = step, graph, decoder
        self.tables: dict[tuple[ir.Value, ir.Value], tuple[ir.Value, ir.Value]] = {}
        self.shared: dict[str, ir.Value] = {}

    def run(self) -> None:
        for layer in self.decoder.layers:
            self._fuse(layer)

    def _fuse(self, layer: Layer) -> None:
        attention = layer.attention
        before = _maker(attention.output)
        rotary = self._rotary(attention)
        query, key, value = (
            self._side_by_side(head, before, rotated=rotary is None)
            for head in (attention.query, attention.key, attention.value)
        )
        bias, lengths, total, count = self._shared_inputs(attention, query, before)
        cos = sin = ids = None
        if rotary is not None:
            found = positions_of(rotary)
            assert found is not None
            cos, sin = self._table(rotary, found, before)
            ids = self._ids(found, query, before)
        pasts = [self._past(head, query, before) for head in (attention.key, attention.value)]
        stored = self._stored(attention)
        scales = [self._scale(head, before) for head in (attention.key, attention.value)]
        inputs = [query, key, value, *pasts, lengths, total, cos, sin, ids, bias, None, *scales]
        inputs += [None, None, count]
        attributes: dict[str, int | float | str] = {
            "num_heads": attention.heads,
            "kv_num_heads": attention.kv_heads,
            "scale": float(attention.scale),
            "do_rotary": int(rotary is not None),
            "rotary_interleaved": int(rotary is not None and rotary.interleaved),
        }
        if stored is not None:
            kind = "PER_CHANNEL" if stored.scale.ndim else "PER_TENSOR"
            attributes["kv_cache_bit_width"] = stored.bits
            attributes |= {"k_quant_type": kind, "v_quant_type": kind}
        self._put(attention, before, inputs, attributes)

    def _put(
        self,
        attention: Attention,
        before: ir.Node,
        inputs: list[ir.Value | None],
        attributes: dict[str, int | float | str],
    ) -> None:
        """The operator in the place of all that it does; cache outputs are its own now."""
        old = attention.output
        heads = (attention.key, attention.value)
        outputs = [ir.Value(name=old.name, shape=old.shape, type=old.type)]
        for kind, head in zip(("key", "value"), heads, strict=True):
            present = head.present
            outputs.append(
                ir.Value(
                    name=present.name if present is not None else None,
                    shape=present.shape if present is not None else None,
                    type=present.type if present is not None else None,
                )
            )
            if present is None:
                outputs[-1].name = unique_name(self.graph, f"{old.name}.{kind}")
        name = unique_node_name(self.graph, f"{attention.softmax.name}.attention")
        node = ir.node("GroupQueryAttention", inputs, attributes, domain=DOMAIN, outputs=outputs)
        node.name = name
        self.graph.insert_before(before, node)
        for head, output in zip(heads, outputs[1:], strict=True):
            if head.present is not None:
                head.present.replace_all_uses_with(output, replace_graph_outputs=True)
        old.replace_all_uses_with(outputs[0], replace_graph_outputs=True)
        gone = [old, *(h.present for h in heads if h.present is not None)]
        removed = prune(gone)
        inherit(node, NAME, *removed)
        for head, output in zip(heads, outputs[1:], strict=True):
            self._retype(head, output)

    def _retype(self, head: Head, output: ir.Value) -> None:
        """Let both ends of a stored cache be of integers."""
        stored = self.step.stored.get(output.name or "")
        if stored is None or head.past is None:
            return
        kind = ir.DataType.INT8 if stored.bits == 8 else ir.DataType.UINT8
        for end in (head.past, output):
            end.type = ir.TensorType(kind)
            dims = list(end.shape or ())
            dims[-1] = self.decoder.head_size * stored.bits // 8
            end.shape = ir.Shape(dims)

    # --- what goes in --------------------------------------------------------------------------

    def _rotary(self, attention: Attention) -> Rotary | None:
        """The rotation that the operator does, of queries and keys alike."""
        query, key = attention.query.rotary, attention.key.rotary
        if query is None or key is None:
            return None
        same = (query.cos, query.sin, query.interleaved, query.dims) == (
            key.cos,
            key.sin,
            key.interleaved,
            key.dims,
        )
        fits = same and not query.dims % 16 and positions_of(query) is not None
        return query if fits else None

    def _side_by_side(self, head: Head, before: ir.Node, *, rotated: bool) -> ir.Value:
        """Heads side by side: (batch, sequence, heads * size), before or after their rotation."""
        value: ir.Value = head.made if rotated else head.projected
        layout: Layout = head.made_layout if rotated else head.layout
        if layout == "bhsd":
            swap = from_op(value, "Transpose")
            if swap is not None and tuple(swap.attributes["perm"].as_ints()) == (0, 2, 1, 3):
                value = operand(swap, 0)
            else:
                value = insert(
                    before,
                    "Transpose",
                    [value],
                    f"{value.name}.third",
                    NAME,
                    like=_typed(value),
                    attributes={"perm": [0, 2, 1, 3]},
                )
        split = from_op(value, "Reshape")
        if split is not None and rank(split.inputs[0]) == 3 and _keeps_tokens(split):
            return operand(split, 0)
        shape = self._number(0, 0, -1)
        return insert(
            before, "Reshape", [value, shape], f"{value.name}.flat", NAME, like=_typed(value)
        )

    def _shared_inputs(
        self, attention: Attention, query: ir.Value, before: ir.Node
    ) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
        """Mask, lengths of texts - 1, their longest, how many tokens are new: (batch,) int32."""
        mask = attention.mask
        assert mask is not None
        key = f"mask {mask.name}"
        if key not in self.shared:
            self.shared[key] = self._bias(mask, query, before)
        bias = self.shared[key]
        if "total" not in self.shared:
            whole = self._length(bias, 3, "total", before)
            total = self._op("Cast", [whole], "total", before, to=int(ir.DataType.INT32))
            self.shared["total"] = self._op("Squeeze", [total], "total.number", before)
            batch = self._op("Shape", [query], "batch", before, start=0, end=1)
            one = self._number(1, dtype=np.int32)
            last = self._op("Sub", [total, one], "total.last", before)
            self.shared["lengths"] = self._op("Expand", [last, batch], "lengths", before)
            new = self._length(query, 1, "new", before)
            new = self._op("Cast", [new], "new.count", before, to=int(ir.DataType.INT32))
            self.shared["count"] = self._op("Expand", [new, batch], "new.counts", before)
        return bias, self.shared["lengths"], self.shared["total"], self.shared["count"]

    def _bias(self, mask: ir.Value, query: ir.Value, before: ir.Node) -> ir.Value:
        """The mask with four axes, that of the new tokens written out."""
        missing = 4 - (rank(mask) or 0)
        if missing:
            axes = self._number(*range(missing)) if missing == 2 else self._number(1)
            mask = self._op("Unsqueeze", [mask, axes], "bias.axes", before, like=mask)
        shape = mask.shape
        if shape is not None and shape[2] != 1:
            return mask
        one, new = self._number(1), self._length(query, 1, "bias.rows", before)
        wanted = self._op("Concat", [one, one, new, one], "bias.shape", before, axis=0)
        return self._op("Expand", [mask, wanted], "bias", before, like=mask)

    def _table(
        self, rotary: Rotary, positions: Positions, before: ir.Node
    ) -> tuple[ir.Value, ir.Value]:
        key = rotary.cos, rotary.sin
        if key not in self.tables:
            self.tables[key] = table(rotary, positions, self.step.positions, before)
        return self.tables[key]

    def _ids(self, positions: Positions, query: ir.Value, before: ir.Node) -> ir.Value:
        """Positions as (batch, sequence) int64."""
        key = f"ids {positions.source.name}"
        if key not in self.shared:
            source = positions.source
            if source.dtype != ir.DataType.INT64:
                source = self._op("Cast", [source], "ids.whole", before, to=int(ir.DataType.INT64))
            shape = self._op("Shape", [query], "ids.shape", before, start=0, end=2)
            self.shared[key] = self._op("Expand", [source, shape], "ids", before)
        return self.shared[key]

    def _past(self, head: Head, query: ir.Value, before: ir.Node) -> ir.Value:
        """The cache that is given, or an empty one."""
        if head.past is not None:
            return head.past
        if "empty" not in self.shared:
            decoder = self.decoder
            batch = self._op("Shape", [query], "empty.batch", before, start=0, end=1)
            rest = self._number(decoder.kv_heads, 0, decoder.head_size)
            shape = self._op("Concat", [batch, rest], "empty.shape", before, axis=0)
            self.shared["empty"] = self._op("ConstantOfShape", [shape], "empty", before)
        return self.shared["empty"]

    def _stored(self, attention: Attention) -> StoredCache | None:
        present = attention.key.present
        return None if present is None else self.step.stored.get(present.name or "")

    def _scale(self, head: Head, before: ir.Node) -> ir.Value | None:
        present = head.present
        stored = None if present is None else self.step.stored.get(present.name or "")
        if stored is None or present is None:
            return None
        shape = (1, self.decoder.kv_heads, 1, -1) if stored.scale.ndim else (1,)
        scale = stored.scale.astype(np.float32).reshape(shape)
        return make_initializer(graph_of(before), f"{present.name}.scale", scale)

    # --- small parts ---------------------------------------------------------------------------

    def _length(self, value: ir.Value, axis: int, name: str, before: ir.Node) -> ir.Value:
        return self._op("Shape", [value], f"{name}.length", before, start=axis, end=axis + 1)

    def _number(self, *numbers: int, dtype: type = np.int64) -> ir.Value:
        return make_initializer(self.graph, "attention.number", np.array(numbers, dtype))

    def _op(
        self,
        op_type: str,
        inputs: list[ir.Value],
        name: str,
        before: ir.Node,
        *,
        like: ir.Value | None = None,
        **attributes: int,
    ) -> ir.Value:
        return insert(
            before,
            op_type,
            inputs,
            f"attention.{name}",
            NAME,
            like=_typed(like) if like is not None else ir.Value(),
            attributes=attributes,
        )


def _maker(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node


def _typed(value: ir.Value) -> ir.Value:
    """A pattern for new values: the type of one, of unknown shape."""
    return ir.Value(type=value.type)


def _keeps_tokens(split: ir.Node) -> bool:
    """Whether a Reshape only splits the last axis of (batch, sequence, width) into heads."""
    before, after = split.inputs[0], split.outputs[0]
    if before is None or before.shape is None or after.shape is None or len(after.shape) != 4:
        return False
    width, heads, size = before.shape[2], after.shape[2], after.shape[3]
    known = all(isinstance(n, int) for n in (width, heads, size))
    return known and width == heads * size
