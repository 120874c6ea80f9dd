"""Makes values comparable that a build's transforms scale: equalized or smoothed channels.

A transform divides channels between layers by factors that the layers behind take up again. The
outputs stay, the values between do not: those of a build are multiplied by its factors, which needs
the float model, in which alone it can be seen how far a factor reaches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from qcompile.compiler import measure
from qcompile.compiler.diff.side import Side
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.options import Scheme
from qcompile.compiler.pipeline import prepare
from qcompile.core import graph as g
from qcompile.core.errors import QCompileError
from qcompile.core.plan import QuantPlan
from qcompile.passes.transform.scaled import Scaling, scaled_values

Transforms = Mapping[str, Mapping[str, np.ndarray]]


def with_scalings(
    sides: Sequence[Side], shapes: Mapping[str, Sequence[int]]
) -> tuple[list[Side], list[Side]]:
    """Sides that know how their values are scaled, where they differ in that.

    Args:
        sides: all that are compared.
        shapes: as the float model is read with.

    Returns:
        The sides, and those of them of which it cannot be known: no side is the float model that
        they were built from.
    """
    each = [_transforms(side) for side in sides]
    if all(_are_equal(one, each[0]) for one in each):
        return list(sides), []
    source = next((side for side in sides if side.format == "onnx" and not side.grids), None)
    found, unknown = [], []
    for side in sides:
        scalings = _scalings(side.plan, source, shapes) if side.plan is not None else {}
        if scalings is None:
            unknown.append(side)
        found.append(replace(side, scalings=scalings or {}))
    return found, unknown


def _scalings(
    plan: QuantPlan, source: Side | None, shapes: Mapping[str, Sequence[int]]
) -> dict[str, Scaling] | None:
    if not plan.transforms:
        return {}
    if source is None:
        return None
    target = measure.known_target(plan.target)
    try:
        imported = load_onnx(
            source.path, shapes, static=target is not None and target.static_shapes
        )
        model = prepare(imported, Scheme(), unroll=0 if target is None else target.unroll)
    except QCompileError:  # the build was given other shapes
        return None
    if g.fingerprint(model) != plan.fingerprint:
        return None
    return scaled_values(model, plan.transforms)


def _transforms(side: Side) -> Transforms:
    return side.plan.transforms if side.plan is not None else {}


def _are_equal(one: Transforms, other: Transforms) -> bool:
    return one.keys() == other.keys() and all(
        one[name].keys() == other[name].keys()
        and all(np.array_equal(one[name][key], other[name][key]) for key in one[name])
        for name in one
    )
