"""The transforms, by the names that plans carry, and a model with a plan's transforms applied."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.errors import Code, QCompileError
from qcompile.passes.transform.equalize import Equalize
from qcompile.passes.transform.smooth import Smooth

Factors = Mapping[str, np.ndarray]

TRANSFORMS: Final[dict[str, Callable[[Factors], ir.passes.InPlacePass]]] = {
    "equalize": Equalize,
    "smooth": Smooth,
}


def transformed(model: ir.Model, transforms: Mapping[str, Factors]) -> ir.Model:
    """The model after its transforms, in order.

    Names of nodes and values stay, and what a transform adds gets the same names each time: a plan
    is made for the transformed graph and fits it again. Tensors that do not change are shared.

    Args:
        model: the canonical float graph; kept as it is.
        transforms: name of a transform -> value name -> factors, as ``plan.transforms``.

    Returns:
        A clone, or the model itself where there is nothing to do.

    Raises:
        QCompileError: BAD_PLAN when there is no such transform, or its factors do not fit.
    """
    if not transforms:
        return model
    clone = model.clone()
    for name, factors in transforms.items():
        transform = TRANSFORMS.get(name)
        if transform is None:
            known = ", ".join(TRANSFORMS)
            raise QCompileError(
                Code.BAD_PLAN, f"the plan has an unknown transform {name}", hint=f"known: {known}"
            )
        transform(factors)(clone)
    return clone
