"""Plan in, weights of integers out: a DequantizeLinear on the constant of every stored weight."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.packing import pack
from qcompile.core.plan import QuantPlan, ValuePlan
from qcompile.core.stored import READS_WEIGHT, Stored, stored_weights
from qcompile.passes.rounding.stored_choice import stored_codes

CONTAINERS: Final = {"uint3": "uint4"}
"""Types that no file has -> the one whose integers they are stored as."""

_OPSETS: Final = {"uint2": 25}
"""Types that DequantizeLinear takes from a later opset on than blocks."""
_BLOCKS_OPSET: Final = 21


@dataclass
class InsertStored(ir.passes.InPlacePass):
    """Write the weights that a plan stores in integers as DequantizeLinear of a constant.

    With codes c of K x N, and scales s and zero points z of a group and column::

        MatMul(x, W), Gemm(x, W)  ->  the same of x and DequantizeLinear(c, s, z, axis 0, block)
        Gather(T, i)              ->  Gather(DequantizeLinear(c^T, s^T, z^T, axis 1, block), i)

    1. Weights of products are written K x N, a Gemm's transB goes: runtimes merge a dequantizer
       with the product behind it only so.
    2. One group a column becomes a scale a column (axis 1 of K x N, no block).
    3. A matrix that several nodes read is written once for products and once for look-ups.

    It changes the function: that is what it is for. What the plan does not store is left alone; a
    second run finds no float constants, and changes nothing.
    """

    plan: QuantPlan

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walk the stored weights; unused float initializers are removed."""
        graph = model.graph
        made: dict[tuple[str, bool], ir.Value] = {}
        opset = 0
        for stored in list(stored_weights(graph, self.plan)):
            entry = self.plan.quantized(stored.name)
            if entry is None:
                continue
            key = (stored.name, stored.is_table)
            if key not in made:
                made[key] = self._write(graph, stored, entry)
            stored.node.replace_input_with(READS_WEIGHT[stored.node.op_type], made[key])
            stored.node.attributes.pop("transB", None)
            opset = max(opset, _OPSETS.get(entry.dtype, _BLOCKS_OPSET))
            if not stored.weight.uses() and not stored.weight.is_graph_output():
                del graph.initializers[stored.name]
        if made:
            # What came between the working opset and this one are types, no other meanings.
            model.opset_imports[""] = max(model.opset_imports.get("", opset), opset)
        return ir.passes.PassResult(model, bool(made))

    def _write(self, graph: ir.Graph, stored: Stored, entry: ValuePlan) -> ir.Value:
        """The dequantized weight: K x N for products, N x K for look-ups."""
        assert entry.params is not None
        array = g.constant(stored.weight)
        assert array is not None
        codes = stored_codes(array, entry, self.plan.rounded.get(entry.name))
        scale, zero = entry.params.scale, entry.params.zero_point.astype(np.uint8)
        attributes = {"axis": 0, "block_size": entry.group}
        if stored.is_table:
            codes, scale, zero = codes.T, scale.T, zero.T
            attributes["axis"] = 1
        if entry.params.scale.shape[0] == 1:
            scale, zero = scale.reshape(-1), zero.reshape(-1)
            attributes = {"axis": 1 - attributes["axis"]}
        kind = ir.DataType[CONTAINERS.get(entry.dtype, entry.dtype).upper()]
        parts = [
            _packed(graph, f"{entry.name}_quantized", codes, kind),
            g.make_initializer(graph, f"{entry.name}_scale", scale),
            g.make_initializer(graph, f"{entry.name}_zero_point", zero, kind),
        ]
        node = ir.node("DequantizeLinear", parts, attributes)
        output = node.outputs[0]
        output.name = g.unique_name(graph, f"{entry.name}_dequantized")
        output.shape, output.type = ir.Shape(codes.shape), ir.TensorType(ir.DataType.FLOAT)
        node.name = output.name
        graph.insert_before(stored.node, g.inherit(node, "InsertStored", stored.node))
        return output


def _packed(graph: ir.Graph, name: str, codes: np.ndarray, kind: ir.DataType) -> ir.Value:
    """An initializer whose codes lie in memory as in the file: a model's are many."""
    if kind == ir.DataType.UINT8:
        return g.make_initializer(graph, name, codes, kind)
    packed = pack(np.ascontiguousarray(codes).reshape(-1), kind.bitwidth)
    value = ir.Value(
        name=g.unique_name(graph, name),
        const_value=ir.PackedTensor(packed, kind, shape=codes.shape),
        shape=ir.Shape(codes.shape),
        type=ir.TensorType(kind),
    )
    graph.register_initializer(value)
    return value
