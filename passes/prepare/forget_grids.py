"""Constants forget the integer grids that they lie on."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.passes.prepare.edit import GRID_KEYS


@dataclass(frozen=True)
class ForgetGrids(ir.passes.InPlacePass):
    """Drop what constants remember of the integers they were (see FoldConstants). Keeps the floats.

    For a user who wants new scales of a model that is quantized already.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        modified = False
        for value in model.graph.initializers.values():
            for key in GRID_KEYS:
                modified |= value.metadata_props.pop(key, None) is not None
        return ir.passes.PassResult(model, modified)
