"""Which values a plan's transforms scale, and by what: to compare them with those of the model."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.passes.transform.channels import find_groups
from qcompile.passes.transform.table import Factors, transformed


@dataclass(frozen=True, eq=False)
class Scaling:
    """What the channels of a value were divided by."""

    axis: int
    factors: np.ndarray
    """float64 (extent of the axis,)."""

    def undo(self, array: np.ndarray) -> np.ndarray:
        """A value of the transformed model as the float model has it."""
        shape = [1] * array.ndim
        shape[self.axis] = -1
        return np.asarray(array * self.factors.astype(np.float32).reshape(shape))


def scaled_values(model: ir.Model, transforms: Mapping[str, Factors]) -> dict[str, Scaling]:
    """The values that transforms scale, by name; names that only a transform adds included.

    Args:
        model: the canonical float graph; kept as it is.
        transforms: as ``plan.transforms``.

    Raises:
        QCompileError: BAD_PLAN when the factors do not fit.
    """
    found: dict[str, Scaling] = {}
    for name, factors in transforms.items():
        model = transformed(model, {name: factors})
        for group in find_groups(model.graph):
            if group.key not in factors or group.faults:
                continue
            if factors[group.key].size != group.channels:
                continue  # the seed of a rotation, which no factor undoes
            for value, lane in group.values:
                own = factors[group.key].astype(np.float64)[lane.index]
                before = found.get(value.name or "")
                known = own if before is None else own * before.factors
                found[value.name or ""] = Scaling(lane.axis, known)
    return found
