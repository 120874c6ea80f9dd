"""Activations with a scale a token, written so that the kernels of fixed scales compute them."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import LIMITS, storage_type, symmetric_params
from qcompile.core.plan import TOKEN

TOKEN_KEY: Final = "qcompile.token"
"""metadata_props key of a node that reads such rows: their type."""

_SMALLEST: Final = np.float32(2.0**-100)
"""Reach of a token that is all zero, which any positive number would do for."""

_PASS: Final = "InsertQDQ"


@dataclass
class TokenRows:
    """Serves the nodes of one graph; what several of them read is quantized once."""

    graph: ir.Graph
    _made: dict[tuple[ir.Value, str], tuple[ir.Value, ir.Value]] = field(default_factory=dict)

    def serve(self, node: ir.Node, dtype: str) -> None:
        """Let a MatMul or Gemm read rows of ``dtype`` with a scale each; once."""
        value = node.inputs[0]
        if value is None or TOKEN_KEY in node.metadata_props:
            return
        key = (value, dtype)
        if key not in self._made:
            self._made[key] = token_rows(self.graph, value, dtype)
        shares, reach = self._made[key]
        node.replace_input_with(0, shares)
        node.metadata_props[TOKEN_KEY] = dtype
        scaled_back(self.graph, node, reach)


def token_rows(graph: ir.Graph, value: ir.Value, dtype: str) -> tuple[ir.Value, ir.Value]:
    """Quantize each row of a value along its last axis on a grid of its own.

    For each row x::

        r = max |x|                         its reach
        q = round(x / r / step)             step = 1 / 127 for 8 bits, 1 / 7 for 4
        x ~ r (step q)

    What is divided by its reach lies in [-1, 1] whatever the row, and so one QuantizeLinear with a
    fixed scale serves all of them; a product with a matrix commutes with the factor of a row::

        x W ~ r ((step q) W)

    Runtimes see a product of two values with fixed scales, for which they have their fastest
    kernels; the rest is four passes over the activation and one over the result.

    Args:
        graph: gets the nodes behind the one that makes the value.
        value: float, of at least one axis.
        dtype: a type of symmetric numbers; unsigned ones have their zero point in the middle.

    Returns:
        ``step q`` as the MatMul is to read it, and r, of one element a row, for ``scaled_back``.
    """
    maker = _Maker(graph, value)
    last = maker.constant("token_last_axis", np.asarray([-1], np.int64))
    smallest = maker.constant("token_smallest", np.asarray(_SMALLEST))
    size = maker.made("Abs", [value], "magnitude")
    a_row = None if value.shape is None else ir.Shape([*list(value.shape)[:-1], 1])
    most = maker.made("ReduceMax", [size, last], "most", a_row)
    reach = maker.made("Max", [most, smallest], "reach", a_row)
    inverse = maker.made("Reciprocal", [reach], "inverse", a_row)
    share = maker.made("Mul", [value, inverse], "share")
    step, middle = symmetric_params(np.asarray(1.0), dtype)
    scale = maker.constant(f"token_step_{dtype}", step.astype(np.float32))
    zero = maker.constant(
        f"token_middle_{dtype}", middle.astype(storage_type(dtype)), ir.DataType[dtype.upper()]
    )
    stored = maker.made("QuantizeLinear", [share, scale, zero], "quantized")
    stored.type = ir.TensorType(ir.DataType[dtype.upper()])
    return maker.made("DequantizeLinear", [stored, scale, zero], "dequantized"), reach


def scaled_back(graph: ir.Graph, node: ir.Node, reach: ir.Value) -> None:
    """Multiply what a MatMul or Gemm makes of such rows by their reach; a bias comes after it."""
    old = node.outputs[0]
    maker = _Maker(graph, old, after=node)
    bias = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    beta = g.attribute_float(node, "beta", 1.0)
    if bias is not None:
        node.replace_input_with(2, None)
    name, uses = old.name, list(old.uses())
    is_output = old.is_graph_output()
    old.name = g.unique_name(graph, f"{name}_of_shares")
    made = maker.made("Mul", [old, reach], "of_tokens")
    if bias is not None:
        if beta != 1.0:
            factor = maker.constant(f"token_beta_{beta}", np.asarray(beta, np.float32))
            bias = maker.made("Mul", [bias, factor], "scaled_bias", bias.shape)
        made = maker.made("Add", [made, bias], "with_bias")
    for use in uses:
        use.node.replace_input_with(use.idx, made)
    made.name = name
    if is_output:
        for index, output in enumerate(graph.outputs):
            if output is old:
                graph.outputs[index] = made


def token_type(activations: str) -> str:
    """The type of a token's numbers, of what a plan says of a node; empty where it says others."""
    dtype = activations.removesuffix(TOKEN)
    return dtype if dtype != activations and dtype in LIMITS else ""


def products_of_tokens(qdq: ir.Model) -> dict[str, str]:
    """Of the nodes that read such rows, by name: the value that their kernel makes.

    What had the node's result by name is that value times the reach of each row.
    """
    return {
        node.name or "": node.outputs[0].name or ""
        for node in qdq.graph
        if TOKEN_KEY in node.metadata_props
    }


class _Maker:
    """Adds nodes one behind the other, from the one that makes a value on."""

    def __init__(self, graph: ir.Graph, value: ir.Value, after: ir.Node | None = None) -> None:
        self.graph, self.value = graph, value
        self.stem = value.name or ""
        self.source = after or value.producer()
        self._last = self.source

    def made(
        self, op: str, inputs: list[ir.Value], what: str, shape: ir.Shape | None = None
    ) -> ir.Value:
        """The output of a new node, float; of the shape of the value where none is given."""
        node = ir.node(op, inputs)
        output = node.outputs[0]
        output.name = g.unique_name(self.graph, f"{self.stem}_{what}")
        output.shape = self.value.shape if shape is None else shape
        output.type = ir.TensorType(ir.DataType.FLOAT)
        node.name = g.unique_node_name(self.graph, output.name)
        g.inherit(node, _PASS, *([] if self.source is None else [self.source]))
        if self._last is None:
            first = next(iter(self.graph), None)
            assert first is not None
            self.graph.insert_before(first, node)
        else:
            self.graph.insert_after(self._last, node)
        self._last = node
        return output

    def constant(self, name: str, array: np.ndarray, kind: ir.DataType | None = None) -> ir.Value:
        """A constant that all that ask for it by this name share."""
        known = self.graph.initializers.get(name)
        return g.make_initializer(self.graph, name, array, kind) if known is None else known
