"""Weights and tables stored as float16, widened again where they are read."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.units import weight_index

LEAST_DB: Final = 60.0
"""SQNR below which a weight stays float32. Rounding to 11 bits gives about 74 dB; magnitudes over
65504, and a tensor that is mostly under 6e-5, give less."""


@dataclass(frozen=True)
class HalfWeights(ir.passes.InPlacePass):
    """``op(x, W)`` becomes ``op(x, Cast(float16(W)))``: half the bytes, computed in float32.

    1. A float32 constant that a multiply-add reads as its second input, or a Gather as the matrix
       that it takes rows of, becomes a float16 initializer behind a Cast to float32; layers that
       share it share both.
    2. Other readers of the constant keep the float32 one.

    It changes the function by the rounding of the weights. Left alone: biases and all other
    constants, weights in subgraphs, and those that float16 does not hold well (``LEAST_DB``).
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walk the nodes once; float32 initializers that nothing reads any more are removed."""
        graph = model.graph
        made: dict[ir.Value, ir.Value] = {}
        for node in list(graph):
            index = weight_index(node)
            weight = None if index is None else node.inputs[index]
            if index is None or weight is None or weight.dtype != ir.DataType.FLOAT:
                continue
            if weight not in made:
                array = g.constant(weight)
                if array is None or not _holds(array):
                    continue
                made[weight] = _halved(graph, weight, array, node)
            node.replace_input_with(index, made[weight])
        for old in made:
            if not old.uses() and not old.is_graph_output() and not old.is_graph_input():
                del graph.initializers[old.name or ""]
        return ir.passes.PassResult(model, modified=bool(made))


def _holds(array: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        error = array.astype(np.float64) - array.astype(np.float16)
    noise, signal = np.square(error).sum(), np.square(array, dtype=np.float64).sum()
    return bool(noise <= signal * 10 ** (-LEAST_DB / 10))


def _halved(graph: ir.Graph, weight: ir.Value, array: np.ndarray, reader: ir.Node) -> ir.Value:
    stored = g.make_initializer(graph, f"{weight.name}_half", array.astype(np.float16))
    node = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT})
    widened = node.outputs[0]
    widened.name = g.unique_name(graph, f"{weight.name}_widened")
    widened.shape, widened.type = weight.shape, ir.TensorType(ir.DataType.FLOAT)
    node.name = widened.name
    g.inherit(node, "HalfWeights", reader)
    graph.insert_before(reader, node)
    return widened
