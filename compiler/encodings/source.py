"""What the user's own model holds, remembered before preparation changes the graph in place."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g


@dataclass(frozen=True, eq=False)
class SourceModel:
    """Names of the values of a model as it was imported, and its constants."""

    values: frozenset[str]
    constants: Mapping[str, ir.TensorProtocol]
    """The tensors themselves, not copies: passes put new ones in their place."""

    def is_unchanged(self, value: ir.Value) -> bool:
        """Whether a value of the canonical graph bears its name in the source with equal numbers.

        A computed value keeps its numbers as long as it has its name, for that is what preparation
        is held to; a constant keeps its name also where something was folded into it.
        """
        name = value.name or ""
        if name not in self.values:
            return False
        old, new = self.constants.get(name), value.const_value
        if old is None or new is None or old is new:
            return (old is None) == (new is None)
        return np.array_equal(old.numpy(), new.numpy())


def source_of(model: ir.Model) -> SourceModel:
    """Look at an imported model before ``prepare``."""
    values = [value for value in g.values(model.graph) if value.name]
    return SourceModel(
        frozenset(value.name or "" for value in values),
        {v.name or "": v.const_value for v in values if v.const_value is not None},
    )
