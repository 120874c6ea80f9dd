"""Constants that several layers share copied where each needs its own quantized form."""

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core.graph import attribute_int, constant, make_initializer
from qcompile.passes.prepare.edit import is_op

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")

WEIGHT, BIAS = 1, 2
"""Input positions of a layer."""

Use = tuple[ir.Node, int]
"""A reader and which of its inputs reads."""


@dataclass(frozen=True)
class SplitShared(ir.passes.InPlacePass):
    """Give layers their own copy of a shared bias, and of a weight they read along other axes.

    Keeps the float function; the copies share memory until one is changed.

    1. A bias that several layers read: each after the first gets its own, since the scale of a
       quantized bias is that of the layer's input times that of its weight.
    2. A weight that is read with different output axes (Gemm with transB and without) or by ops
       that are no layers too (Gather on an embedding, Transpose, Mul): each group of layers with
       one axis gets its own, unless it is the first group and there are no other readers.
    3. A constant read as weight by one layer and as bias by another counts as rule 2; so does one
       that is added behind a MatMul, a bias too, and read by other ops (a GRU's step from zero
       multiplies with it).

    Left alone: a weight that layers share along one axis (one quantized form serves them all);
    constants of other ops; layers in subgraphs count as other readers.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        graph = model.graph
        modified = False
        for value in tuple(graph.initializers.values()):
            if len(value.uses()) > 1 and constant(value) is not None:
                for uses in _to_copy(graph, value):
                    _copy(graph, value, uses)
                    modified = True
        return ir.passes.PassResult(model, modified=modified)


def _to_copy(graph: ir.Graph, value: ir.Value) -> list[list[Use]]:
    """Groups of uses that each need a copy of the value; the others keep it."""
    groups: dict[tuple[str, int], list[Use]] = {}
    others = value.is_graph_output()
    for count, use in enumerate(_in_graph_order(graph, value.uses())):
        role = _role(graph, use)
        if role is None:
            others = True
        else:
            # No two readers share a bias: the count makes each a group of its own.
            groups.setdefault(("bias", count) if role[0] == "bias" else role, []).append(use)
    return list(groups.values())[0 if others else 1 :]


def _in_graph_order(graph: ir.Graph, uses: Iterable[Use]) -> list[Use]:
    """The uses sorted by where the node stands, so that the same copy always keeps the name."""
    wanted = {use[0] for use in uses}
    position = {node: i for i, node in enumerate(graph) if node in wanted}
    return sorted(uses, key=lambda use: (position.get(use[0], -1), use[1]))


def _role(graph: ir.Graph, use: Use) -> tuple[str, int] | None:
    """How a layer reads the constant: ("weight", output axis), ("bias", 0) or ("added", 0)."""
    node, index = use
    if node.graph is graph and is_op(node, "Add") and _follows_matmul(node, 1 - index):
        return "added", 0
    if node.graph is not graph or not is_op(node, *LAYERS):
        return None
    if index == BIAS:
        return "bias", 0
    if index != WEIGHT:
        return None
    if is_op(node, "Gemm"):
        return "weight", 0 if attribute_int(node, "transB", 0) else 1
    if is_op(node, "MatMul"):
        value = node.inputs[WEIGHT]
        assert value is not None
        assert value.const_value is not None
        return "weight", len(value.const_value.shape) - 1
    return "weight", 0 if is_op(node, "Conv") else 1


def _follows_matmul(add: ir.Node, index: int) -> bool:
    value = add.inputs[index]
    return value is not None and is_op(value.producer(), "MatMul")


def _copy(graph: ir.Graph, value: ir.Value, uses: list[Use]) -> None:
    array = constant(value)
    assert array is not None
    assert value.name is not None
    own = make_initializer(graph, value.name, array)
    own.metadata_props.update(value.metadata_props)
    for use in uses:
        use[0].replace_input_with(use[1], own)
