"""What dynamic layers read, rounded row by row: how runtimes with a scale a row compute it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g

ROW_READERS: Final = frozenset({"MatMul", "Gemm"})
_STEPS: Final = 255
_SMALLEST: Final = np.float32(2.0**-100)


@dataclass(frozen=True)
class RowScales(ir.passes.InPlacePass):
    """``Dequantize(DynamicQuantize(x))`` becomes the same in floats, with a scale a row.

    For each row r along the last axis, zero being inside its range (TFLite's kernels of XNNPACK)::

        s = (max(r, 0) - min(r, 0)) / 255
        z = round(-min(r, 0) / s)
        y = s (clip(round(r / s) + z, 0, 255) - z)           ties to the even number

    It is for graphs that are run to judge a plan: none of it is integer any more.

    Left alone: what others than MatMul and Gemm read, or a Gemm that transposes it (its rows are no
    longer rows then), and integers that are read without being dequantized.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every pair; constants are shared."""
        pairs = [pair for node in model.graph if (pair := _pair(node)) is not None]
        for quantizer, dequantizer in pairs:
            _rewrite(model.graph, quantizer, dequantizer)
        return ir.passes.PassResult(model, modified=bool(pairs))


def _pair(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    if node.op_type != "DynamicQuantizeLinear":
        return None
    readers = {use.node for output in node.outputs for use in output.uses()}
    if len(readers) != 1:
        return None
    (behind,) = readers
    if behind.op_type != "DequantizeLinear":
        return None
    uses = behind.outputs[0].uses()
    return (node, behind) if all(_reads_rows(use.node) for use in uses) else None


def _reads_rows(node: ir.Node) -> bool:
    return node.op_type in ROW_READERS and not g.attribute_int(node, "transA", 0)


def _rewrite(graph: ir.Graph, quantizer: ir.Node, dequantizer: ir.Node) -> None:
    x, old = quantizer.inputs[0], dequantizer.outputs[0]
    assert x is not None
    last = _constant(graph, "last_axis", np.asarray([-1], np.int64))
    zero, top, steps, smallest = (
        _constant(graph, name, np.asarray(number, np.float32))
        for name, number in (
            ("nothing", 0), ("top_step", _STEPS), ("steps", _STEPS), ("smallest", _SMALLEST),
        )
    )  # fmt: skip

    def made(op: str, *inputs: ir.Value) -> ir.Value:
        node = ir.node(op, list(inputs))
        out = node.outputs[0]
        out.name = node.name = g.unique_name(graph, f"{old.name}_{op}")
        out.type = ir.TensorType(ir.DataType.FLOAT)
        g.inherit(node, "RowScales", quantizer)
        graph.insert_before(dequantizer, node)
        return out

    low = made("Min", made("ReduceMin", x, last), zero)
    high = made("Max", made("ReduceMax", x, last), zero)
    scale = made("Max", made("Div", made("Sub", high, low), steps), smallest)
    offset = made("Round", made("Div", made("Neg", low), scale))
    stored = made("Add", made("Round", made("Div", x, scale)), offset)
    kept = made("Clip", stored, zero, top)
    y = made("Mul", made("Sub", kept, offset), scale)
    y.shape = old.shape
    old.replace_all_uses_with(y)
    for node in (dequantizer, quantizer):
        graph.remove(node, safe=True)


def _constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    full = f"row_scales_{name}"
    known = graph.initializers.get(full)
    return g.make_initializer(graph, full, array) if known is None else known
