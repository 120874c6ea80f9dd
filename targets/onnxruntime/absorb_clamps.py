"""Drops a Relu or Clip whose work its quantizer does anyway."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import limits


@dataclass
class AbsorbClamps(ir.passes.InPlacePass):
    """Remove ``Relu`` / ``Clip`` between an op and the only QuantizeLinear that reads it.

    ``saturate(rint(clip(x, a, b) / s) + z)`` equals ``saturate(rint(x / s) + z)`` for every x when
    the quantizer's lowest integer stands for ``a`` and its highest for at most ``b`` or for a
    value that rounds to the same integer as ``b``:

    1. the zero point is the type's lowest integer and ``a`` is 0 (Relu: always);
    2. ``rint(b / s)`` is at least the number of steps of the type (Relu: no bound).

    The integers are equal bit by bit. Anything else is left alone. ONNX Runtime has such a rule
    itself, but not in all versions and not for every form of Clip; a node left over would keep
    the whole op float.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walk the nodes once."""
        modified = False
        for node in list(model.graph):
            if node.op_type in {"Relu", "Clip"} and _quantizer_does_it(node):
                source = node.inputs[0]
                assert source is not None
                node.outputs[0].replace_all_uses_with(source)
                model.graph.remove(node, safe=True)
                modified = True
        return ir.passes.PassResult(model, modified)


def _quantizer_does_it(node: ir.Node) -> bool:
    reader = g.only_consumer(node.outputs[0])
    if reader is None or reader.op_type != "QuantizeLinear" or len(reader.inputs) < 3:
        return False
    source = node.inputs[0]
    if source is None or source.producer() is None or g.only_consumer(source) is not node:
        return False
    zero_value, scale = reader.inputs[2], g.scalar(reader.inputs[1])
    zero_point = g.scalar(zero_value)
    if scale is None or zero_point is None or zero_value is None or zero_value.dtype is None:
        return False
    low, high = limits(zero_value.dtype.name.lower())
    if zero_point != low:
        return False
    if node.op_type == "Relu":
        return True
    a = g.scalar(node.inputs[1]) if len(node.inputs) > 1 else None
    upper = node.inputs[2] if len(node.inputs) > 2 else None
    b = g.scalar(upper)
    return a == 0.0 and (upper is None or (b is not None and round(b / scale) >= high - low))
