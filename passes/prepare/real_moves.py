"""Operators that move the integers of a quantized value move what those stand for."""

from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from qcompile.core.graph import constant, inherit, unique_name, unique_node_name
from qcompile.passes.prepare.edit import graph_of, has_input, insert, is_op, operand

NAME = "RealMoves"

_MOVES: Final = (
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape",
    "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
)  # fmt: skip
"""Operators whose results are elements of their first input (Concat: of any)."""

_Grid = tuple[ir.Value, ...]


@dataclass(frozen=True)
class RealMoves(ir.passes.InPlacePass):
    """Put quantizers around operators that move quantized integers. Keeps the function to the bit.

    ``Move(q) = Q(Move(DQ(q)))`` for the scale and zero point with which ``q`` was made, since
    ``Q(DQ(q)) = q`` and the largest integer stands for the largest number. After it every operator
    of a quantized model stands between a DequantizeLinear and a QuantizeLinear, as in QDQ form.

    Left alone: integers that no QuantizeLinear of one constant scale made, or a Concat of several;
    a Pad, which brings in an integer of its own; outputs that are indices.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        grids: dict[ir.Value, _Grid] = {}
        modified = False
        for node in tuple(model.graph):
            if is_op(node, "QuantizeLinear"):
                grid = _grid(node)
                if grid is not None:
                    grids[node.outputs[0]] = grid
            elif is_op(node, *_MOVES) and (found := _moved(node, grids)) is not None:
                _surround(node, found, grids)
                modified = True
        return ir.passes.PassResult(model, modified)


def _grid(node: ir.Node) -> _Grid | None:
    parameters = tuple(v for v in node.inputs[1:] if v is not None)
    arrays = [constant(value) for value in parameters]
    return parameters if all(a is not None and a.size == 1 for a in arrays) else None


def _moved(node: ir.Node, grids: dict[ir.Value, _Grid]) -> _Grid | None:
    """The grid of the integers that a node moves."""
    if len(node.outputs) > 1 and not is_op(node, "Split"):
        return None
    found = [grids.get(operand(node, index)) for index in _data(node)]
    first = found[0]
    if first is None or any(grid is None or _key(grid) != _key(first) for grid in found):
        return None
    return first


def _key(grid: _Grid) -> list[tuple[object, bytes]]:
    arrays = [constant(value) for value in grid]
    return [(a.dtype, a.tobytes()) for a in arrays if a is not None]


def _data(node: ir.Node) -> range:
    return range(len(node.inputs)) if is_op(node, "Concat") else range(int(has_input(node, 0)))


def _surround(node: ir.Node, grid: _Grid, grids: dict[ir.Value, _Grid]) -> None:
    graph = graph_of(node)
    for index in _data(node):
        stored = operand(node, index)
        like = ir.Value(shape=stored.shape, type=ir.TensorType(ir.DataType.FLOAT))
        name = f"{stored.name}_dequantized"
        real = insert(node, "DequantizeLinear", [stored, *grid], name, NAME, like=like, source=node)
        node.replace_input_with(index, real)
    for output in node.outputs:
        again = ir.Value(name=output.name, shape=output.shape, type=output.type)
        output.replace_all_uses_with(again, replace_graph_outputs=True)
        output.name = unique_name(graph, f"{again.name}_real")
        output.type = ir.TensorType(ir.DataType.FLOAT)
        name = unique_node_name(graph, f"{again.name}_quantized")
        made = ir.node("QuantizeLinear", [output, *grid], outputs=[again], name=name)
        inherit(made, NAME, node)
        graph.insert_after(node, made)
        grids[again] = grid
