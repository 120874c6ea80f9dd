"""The transforms, by the names that plans carry, and a model with a plan's transforms applied."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core.errors import Code, QCompileError
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.passes.transform import awq, divide, equalize, rotate, smooth, spread
from qcompile.passes.transform.apply import changed_values
from qcompile.passes.transform.awq import Awq
from qcompile.passes.transform.divide import Divide
from qcompile.passes.transform.equalize import Equalize
from qcompile.passes.transform.rotate import Rotate
from qcompile.passes.transform.smooth import Smooth
from qcompile.passes.transform.spread import Spread

Factors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Transform:
    """What the driver needs to know of a transform; nothing in it depends on a target."""

    apply: Callable[[Factors], ir.passes.InPlacePass]
    """The pass, given its factors."""
    request: Callable[[ir.Model], StatisticRequest]
    """What ``find`` needs to know of the float model."""
    find: Callable[[ir.Model, Statistics, str | None], dict[str, np.ndarray]]
    """The factors, by the granularity of the weights' scales; empty where nothing is gained."""
    changed_values: Callable[[ir.Model, Iterable[str]], set[str]]
    """Values whose statistics must be gathered again: of the model before, for those factors."""


TRANSFORMS: Final[dict[str, Transform]] = {
    "awq": Transform(Awq, awq.request, awq.find, changed_values),
    "smooth": Transform(Smooth, smooth.request, smooth.find, smooth.changed_values),
    "divide": Transform(Divide, divide.request, divide.find, divide.changed_values),
    "spread": Transform(Spread, spread.request, spread.find, changed_values),
    "rotate": Transform(Rotate, rotate.request, rotate.find, rotate.changed_values),
    "equalize": Transform(Equalize, equalize.request, equalize.find, changed_values),
}


def find_transforms(
    model: ir.Model,
    names: Iterable[str],
    gather: Callable[[ir.Model, StatisticRequest], Statistics],
    granularity: str | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """The factors of transforms that follow one another, each found on what the last one made.

    Args:
        model: the canonical float graph; kept as it is.
        names: of the table, in order.
        gather: runs the calibration samples through a model.
        granularity: of the weights' scales.

    Returns:
        As ``plan.transforms``; transforms that find nothing to do are left out.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in names:
        now, transform = transformed(model, found), TRANSFORMS[name]
        request = transform.request(now)
        factors = transform.find(now, gather(now, request), granularity) if request else {}
        if factors:
            found[name] = factors
    return found


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
        transform.apply(factors)(clone)
    return clone
