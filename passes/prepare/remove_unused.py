"""Nodes whose results nobody reads, and constants that nobody reads, removed."""

from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class RemoveUnused(ir.passes.InPlacePass):
    """Remove what contributes to no output of the model. Keeps the float function.

    1. Nodes of which no output is read and none is a graph output, from the end backwards.
    2. Initializers that nobody reads and that are neither graph inputs nor outputs.

    Left alone: graph inputs, subgraphs, unused further outputs of a node that is used. (The pass
    of onnx-ir looks a schema up for every node and does not report all it changes.)
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        graph = model.graph
        modified = False
        for node in reversed(graph):
            if not any(_is_used(output) for output in node.outputs):
                graph.remove(node, safe=True)
                modified = True
        for name, value in tuple(graph.initializers.items()):
            if not (_is_used(value) or value.is_graph_input()):
                del graph.initializers[name]
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()
