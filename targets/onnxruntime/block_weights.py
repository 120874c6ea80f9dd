"""Products with stored weights, and look-ups in stored tables, as ONNX Runtime's block kernels."""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.onnxruntime.blocks import MS, Blocks, blocks_of

ACCURACY_LEVEL: Final = 4
"""Activations in 8 bits a block; at any lower level the kernels are 2 to 130 times slower."""


@dataclass
class BlockWeights(ir.passes.InPlacePass):
    """DequantizeLinear and what reads it become one node of the block kernels.

    With W = DequantizeLinear of a constant (``blocks.blocks_of`` says which)::

        MatMul(x, W)            ->  MatMulNBits(x, codes, scales, zero points)
        Gemm(x, W, b)           ->  the same, with b as its bias; transB as it says
        Gather(W, i), of rows   ->  GatherBlockQuantized(codes, i, scales, zero points)

    1. Equal codes are stored once: the table of an embedding that is tied to a head is a Reshape of
       the head's, which ONNX Runtime does when it loads the model.
    2. Zero points of ``2^(bits-1)`` are left out: it is the kernels' default.

    It keeps the function but for the rounding of activations to 8 bits a block in products.

    Left as they are: products of integers, whose x is dequantized too; a Gemm with factors, with a
    transposed x or a bias that is no vector of N; look-ups in rows that are no whole blocks.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walk the nodes once; dequantizers without readers are removed."""
        writer = _Writer(model.graph)
        products = [n for n in model.graph if n.op_type in {"MatMul", "Gemm"}]
        tables = [n for n in model.graph if n.op_type == "Gather"]
        made = [writer.product(node) for node in products if _is_plain(node)]
        made += [writer.table(node) for node in tables if _is_plain(node)]
        if any(made):
            model.opset_imports.setdefault(MS, 1)
            writer.drop_unused()
        return ir.passes.PassResult(model, any(made))


def _reads_integers(node: ir.Node) -> bool:
    """Whether the activation of a product stands for integers, for which there are kernels."""
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    return before is not None and before.op_type == "DequantizeLinear"


def _is_plain(node: ir.Node) -> bool:
    """Whether a node is of ONNX's own domain."""
    return node.domain in {"", "ai.onnx"}


class _Writer:
    """Edits one graph; remembers tensors, so that equal ones are stored once."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._tensors: dict[tuple[bytes, tuple[int, ...]], ir.Value] = {}
        self._blocks: dict[tuple[ir.Value, int, bool], Blocks | None] = {}
        self._dead: list[ir.Node] = []

    def product(self, node: ir.Node) -> bool:
        """Write a MatMul or Gemm as MatMulNBits; False where it stays."""
        axis = g.attribute_int(node, "transB", 0) if node.op_type == "Gemm" else 0
        blocks = self._of(node.inputs[1], axis)
        if blocks is None or not _has_form(node, len(blocks.codes)) or _reads_integers(node):
            return False
        weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
        inputs = [node.inputs[0], *self._stored(weight, blocks)]
        if bias is not None:
            inputs += [None] * (5 - len(inputs)) + [bias]
        self._replace(node, "MatMulNBits", inputs, weight, {
            "K": blocks.rows, "N": len(blocks.codes), "bits": blocks.bits,
            "block_size": blocks.size, "accuracy_level": ACCURACY_LEVEL,
        })  # fmt: skip
        return True

    def table(self, node: ir.Node) -> bool:
        """Write a Gather of rows as GatherBlockQuantized; False where it stays."""
        weight = node.inputs[0]
        blocks = self._of(weight, 1, whole=True)
        if blocks is None or g.attribute_int(node, "axis", 0) != 0:
            return False
        codes, *rest = self._stored(weight, blocks, table=True)
        inputs = [codes, node.inputs[1], *rest]
        self._replace(node, "GatherBlockQuantized", inputs, weight, {
            "bits": blocks.bits, "block_size": blocks.size, "gather_axis": 0, "quantize_axis": 1,
        })  # fmt: skip
        return True

    def drop_unused(self) -> None:
        """Remove dequantizers that nobody reads, and their constants."""
        for node in self._dead:
            if node.graph is None or node.outputs[0].uses() or node.outputs[0].is_graph_output():
                continue
            constants = [value for value in node.inputs if value is not None]
            self.graph.remove(node, safe=True)
            for value in constants:
                if not value.uses() and value.name in self.graph.initializers:
                    del self.graph.initializers[value.name or ""]

    def _of(self, value: ir.Value | None, axis: int, *, whole: bool = False) -> Blocks | None:
        if value is None:
            return None
        key = (value, axis, whole)
        if key not in self._blocks:
            self._blocks[key] = blocks_of(value.producer(), axis, whole=whole)
        return self._blocks[key]

    def _stored(
        self, weight: ir.Value | None, blocks: Blocks, *, table: bool = False
    ) -> list[ir.Value | None]:
        """Codes, scales and, where there are any, zero points as initializers."""
        assert weight is not None
        stem = (weight.name or "").removesuffix("_dequantized")
        codes = self._rows if table else self._tensor
        parts: list[ir.Value | None] = [
            codes(f"{stem}_blocks", blocks.codes),
            self._tensor(f"{stem}_block_scales", blocks.scales),
        ]
        if blocks.zero_points is not None:
            parts.append(self._tensor(f"{stem}_block_zero_points", blocks.zero_points))
        return parts

    def _tensor(self, name: str, array: np.ndarray) -> ir.Value:
        key = _key(array)
        if key not in self._tensors:
            self._tensors[key] = g.make_initializer(self.graph, name, array)
        return self._tensors[key]

    def _rows(self, name: str, codes: np.ndarray) -> ir.Value:
        """The codes as a matrix, a line a row: of its own, or of what a product reads as well."""
        rows = codes.reshape(len(codes), -1)
        known = self._tensors.get(_key(codes))
        if known is None:
            return self._tensor(name, rows)
        shape = self._tensor(f"{known.name}_shape", np.asarray(rows.shape, np.int64))
        node = ir.node("Reshape", [known, shape])
        node.name = g.unique_node_name(self.graph, f"{known.name}_rows")
        node.outputs[0].name = g.unique_name(self.graph, node.name)
        node.outputs[0].type = known.type
        self.graph.insert_before(next(iter(self.graph)), node)
        return node.outputs[0]

    def _replace(
        self,
        node: ir.Node,
        op: str,
        inputs: list[ir.Value | None],
        weight: ir.Value | None,
        attributes: dict[str, int],
    ) -> None:
        """Put a node of the block kernels in the place of ``node``, under its name."""
        attrs = [ir.AttrInt64(name, value) for name, value in attributes.items()]
        new = ir.Node(MS, op, inputs, attrs, num_outputs=1, name=node.name)
        g.inherit(new, "BlockWeights", node)
        ir.convenience.replace_nodes_and_values(
            self.graph, node, [node], [new], node.outputs, new.outputs
        )
        producer = weight.producer() if weight is not None else None
        if producer is not None:
            self._dead.append(producer)


def _key(array: np.ndarray) -> tuple[bytes, tuple[int, ...]]:
    return hashlib.sha256(array.data).digest(), array.shape


def _has_form(node: ir.Node, columns: int) -> bool:
    """Whether a product is one that the kernel does."""
    if node.op_type == "MatMul":
        return True
    if g.attribute_int(node, "transA", 0):
        return False
    if any(g.attribute_float(node, key, 1.0) != 1.0 for key in ("alpha", "beta")):
        return False
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return bias is None or g.static_shape(bias) == (columns,)
