"""Ends of a QDQ graph in the type of byte that was asked for, and inputs that are raw bytes."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.pixels import PIXELS_KEY, Pixels, pixels_from_json

NAME: Final = "ByteEnds"
_BYTES: Final = {"uint8": ir.DataType.UINT8, "int8": ir.DataType.INT8}


@dataclass(frozen=True)
class ByteEnds(ir.passes.InPlacePass):
    """Exchange the ends of a quantized graph as bytes of one type.

    With z the zero point of uint8, and 128 less for int8:

    1. An input that stands for bytes (``core.pixels``) becomes these bytes: what made the value
       that stands for them goes, and its readers take ``(u - z) * scale``, or the bytes themselves
       where they quantized that value so.
    2. An integer end of the other type of byte goes through a DequantizeLinear and a
       QuantizeLinear, whose zero points lie 128 apart: every number is kept.

    It keeps the function of the graph on inputs made of bytes. Left alone: float ends that stand
    for no bytes, other integers.
    """

    dtype: str
    """``uint8`` or ``int8``."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Inputs first; a second run finds nothing to do."""
        graph, wanted = model.graph, _BYTES[self.dtype]
        modified = False
        for name, pixels in pixels_from_json(model.metadata_props.get(PIXELS_KEY)).items():
            value = next((v for v in graph.inputs if v.name == name), None)
            if value is not None and value.dtype == ir.DataType.FLOAT:
                _take_bytes(graph, value, pixels, wanted)
                modified = True
        for value in graph.inputs:
            if value.dtype in set(_BYTES.values()) - {wanted} and _reader(value) is not None:
                _retype_input(graph, value, wanted)
                modified = True
        for value in list(graph.outputs):
            if value.dtype in set(_BYTES.values()) - {wanted} and _is_quantized(value):
                _retype_output(graph, value, wanted)
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _take_bytes(graph: ir.Graph, value: ir.Value, pixels: Pixels, kind: ir.DataType) -> None:
    """Rule 1."""
    stands = next((v for v in g.values(graph) if v.name == pixels.value), value)
    first = next(iter(graph), None)
    if first is None:
        return
    zero = pixels.zero_point - (128 if kind == ir.DataType.INT8 else 0)
    uses = [(use.node, use.idx) for use in stands.uses()]
    scale = np.asarray(pixels.scale, np.float32)
    real = _dequantize(graph, value, scale, zero, kind, first, like=stands)
    for node, index in uses:
        own = node.op_type == "QuantizeLinear" and index == 0 and _has(node, scale, zero, kind)
        if own:  # these are the bytes themselves
            node.outputs[0].replace_all_uses_with(value)
            graph.remove(node, safe=True)
        else:
            node.replace_input_with(index, real)
    maker = stands.producer()
    while maker is not None and not any(v.uses() for v in maker.outputs):
        source = maker.inputs[0]
        graph.remove(maker, safe=True)
        maker = None if source is None else source.producer()
    if not real.uses():
        made = real.producer()
        assert made is not None
        graph.remove(made, safe=True)
    value.type = ir.TensorType(kind)
    for name, unused in list(graph.initializers.items()):
        if not unused.uses() and not unused.is_graph_output() and not unused.is_graph_input():
            del graph.initializers[name]


def _has(node: ir.Node, scale: np.ndarray, zero: int, kind: ir.DataType) -> bool:
    """Whether a QuantizeLinear has these parameters."""
    points = g.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    own = g.constant(node.inputs[1])
    if points is None or own is None or own.size != 1 or points.size != 1:
        return False
    same = ir.DataType.from_numpy(points.dtype) == kind
    return same and np.array_equal(own.reshape(()), scale) and int(points.reshape(())) == zero


def _retype_input(graph: ir.Graph, value: ir.Value, kind: ir.DataType) -> None:
    """Rule 2 for an input: the graph's own bytes are made of the caller's."""
    reader = _reader(value)
    assert reader is not None
    own = value.dtype
    uses = [(use.node, use.idx) for use in value.uses()]
    scale, zero = _parameters(reader)
    assert own is not None
    first = next(iter(graph))
    shift = 128 if kind == ir.DataType.UINT8 else -128
    real = _dequantize(graph, value, scale, zero + shift, kind, first, like=reader.outputs[0])
    again = _quantize(graph, real, scale, zero, own, f"{value.name}_{own.name.lower()}")
    for node, index in uses:
        node.replace_input_with(index, again)
    maker = real.producer()
    assert maker is not None and again.producer() is not None
    graph.insert_after(maker, again.producer())  # type: ignore[arg-type]
    value.type = ir.TensorType(kind)


def _retype_output(graph: ir.Graph, value: ir.Value, kind: ir.DataType) -> None:
    """Rule 2 for an output, which keeps its name."""
    maker, name, own = value.producer(), value.name, value.dtype
    assert maker is not None and own is not None
    scale, zero = _parameters(maker)
    shift = 128 if kind == ir.DataType.UINT8 else -128
    value.name = g.unique_name(graph, f"{name}_{own.name.lower()}")
    real = _dequantize(graph, value, scale, zero, own, None, like=value)
    last = _quantize(graph, real, scale, zero + shift, kind, name or "")
    last.name = name
    graph.insert_after(maker, [real.producer(), last.producer()])  # type: ignore[list-item]
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = last


def _reader(value: ir.Value) -> ir.Node | None:
    """A DequantizeLinear that reads an integer input and says its parameters."""
    return next((n for n in value.consumers() if n.op_type == "DequantizeLinear"), None)


def _is_quantized(value: ir.Value) -> bool:
    maker = value.producer()
    return maker is not None and maker.op_type == "QuantizeLinear"


def _parameters(node: ir.Node) -> tuple[np.ndarray, int]:
    scale, zero = g.constant(node.inputs[1]), g.constant(node.inputs[2])
    assert scale is not None and zero is not None
    return scale.astype(np.float32), int(zero.reshape(()))


def _dequantize(
    graph: ir.Graph,
    value: ir.Value,
    scale: np.ndarray,
    zero: int,
    kind: ir.DataType,
    before: ir.Node | None,
    *,
    like: ir.Value,
) -> ir.Value:
    """The real numbers of some bytes; the node is placed in front of ``before``, if given."""
    node = ir.node("DequantizeLinear", [value, *_pair(graph, value, scale, zero, kind)])
    real = node.outputs[0]
    real.name = g.unique_name(graph, f"{value.name}_real")
    real.shape, real.type = like.shape, ir.TensorType(ir.DataType.FLOAT)
    node.name = real.name
    g.inherit(node, NAME)
    if before is not None:
        graph.insert_before(before, node)
    return real


def _quantize(
    graph: ir.Graph, real: ir.Value, scale: np.ndarray, zero: int, kind: ir.DataType, name: str
) -> ir.Value:
    """The bytes of some real numbers; the node is left for the caller to place."""
    node = ir.node("QuantizeLinear", [real, *_pair(graph, real, scale, zero, kind)])
    made = node.outputs[0]
    made.name = g.unique_name(graph, name)
    made.shape, made.type = real.shape, ir.TensorType(kind)
    node.name = g.unique_node_name(graph, f"{made.name}_quantize")
    g.inherit(node, NAME)
    return made


def _pair(
    graph: ir.Graph, value: ir.Value, scale: np.ndarray, zero: int, kind: ir.DataType
) -> list[ir.Value]:
    point = np.asarray(zero, kind.numpy())
    return [
        g.make_initializer(graph, f"{value.name}_end_scale", np.asarray(scale, np.float32)),
        g.make_initializer(graph, f"{value.name}_end_zero_point", point),
    ]
