"""Drops a Relu or Clip whose work its quantizer does anyway."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import LIMITS, quantize


@dataclass
class AbsorbClamps(ir.passes.InPlacePass):
    """Remove ``Relu`` / ``Clip`` between an op and the only QuantizeLinear that reads it.

    ``q(clip(x, a, b))`` with ``q(x) = saturate(rint(x / s) + z)``, which never falls, equals
    ``q(x)`` for every x when ``q(a)`` is the type's lowest integer and ``q(b)`` its highest:

    1. the zero point is the type's lowest integer and ``a`` is 0 (Relu: always);
    2. the quantizer makes the highest integer of ``b`` (Relu, or no ``b``: always).

    The integers are equal bit by bit. Left alone: a clamp of a graph input; one whose input or
    output has another reader or is an output of the graph; scales a channel, or that are computed
    or not float32; a bound that is computed. ONNX Runtime has such a rule itself, but not in all
    versions and not for every form of Clip; a node left over would keep the whole op float.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walk the nodes once."""
        modified = False
        for node in list(model.graph):
            if node.op_type in {"Relu", "Clip"} and _quantizer_does_it(node):
                source = node.inputs[0]
                assert source is not None
                clamped = node.outputs[0]
                clamped.replace_all_uses_with(source)
                model.graph.remove(node, safe=True)
                # What the op now gives is what the plan calls by the clamp's name.
                name, clamped.name = clamped.name, None
                source.name = name
                modified = True
        return ir.passes.PassResult(model, modified)


def _quantizer_does_it(node: ir.Node) -> bool:
    reader = g.only_consumer(node.outputs[0])
    if reader is None or reader.op_type != "QuantizeLinear" or len(reader.inputs) < 3:
        return False
    source = node.inputs[0]
    if source is None or source.producer() is None or g.only_consumer(source) is not node:
        return False
    limits = _limits(reader)
    if limits is None:
        return False
    return node.op_type == "Relu" or _clips_no_more(node, reader, limits[1])


def _limits(quantizer: ir.Node) -> tuple[int, int] | None:
    """Lowest and highest integer of a per-tensor quantizer whose lowest integer stands for 0."""
    scale, zero = quantizer.inputs[1], quantizer.inputs[2]
    zero_point = g.scalar(zero)
    if g.scalar(scale) is None or zero_point is None or scale is None or zero is None:
        return None
    limits = None if zero.dtype is None else LIMITS.get(zero.dtype.name.lower())
    if limits is None or zero_point != limits[0] or scale.dtype != ir.DataType.FLOAT:
        return None
    return limits


def _clips_no_more(clip: ir.Node, quantizer: ir.Node, highest: int) -> bool:
    """Whether a Clip starts at 0 and its upper bound, if any, becomes the highest integer."""
    low = g.scalar(clip.inputs[1]) if len(clip.inputs) > 1 else None
    upper = clip.inputs[2] if len(clip.inputs) > 2 else None
    if low != 0.0 or upper is None:
        return low == 0.0
    bound, scale, zero = (g.constant(v) for v in (upper, *quantizer.inputs[1:3]))
    if bound is None or bound.size != 1 or scale is None or zero is None:
        return False
    return int(quantize(bound, scale, zero, zero.dtype.name).reshape(())) == highest
