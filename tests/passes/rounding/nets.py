"""Small random networks with roundings that are biased on purpose, and the mean error they make."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import along_axis, limits
from qcompile.core.plan import QuantPlan
from qcompile.core.units import units
from tests.passes.planning import EXECUTOR, Planned
from tests.passes.prepare.checking import parse, rand

CONVS = """
g (float[1, 4, {h}, {w}] x) => (float[] y) {{
    c1 = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    r1 = Relu (c1)
    c2 = Conv <pads = [1, 1, 1, 1], group = 8> (r1, w2, b2)
    r2 = Relu (c2)
    c3 = Conv (r2, w3, b3)
    a3 = Add (c3, r1)
    r3 = Relu (a3)
    c4 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (r3, w4, b4)
    y = Relu (c4)
}}
"""
CONSTANTS = {
    "w1": rand(8, 4, 3, 3, seed=1) / 6,
    "b1": rand(8, seed=2),
    "w2": rand(8, 1, 3, 3, seed=3) / 3,
    "b2": rand(8, seed=4),
    "w3": rand(8, 8, 1, 1, seed=5) / 3,
    "b3": rand(8, seed=6),
    "w4": rand(8, 8, 3, 3, seed=7) / 8,
    "b4": rand(8, seed=8),
}
LAYERS = {"c1": "b1", "c2": "b2", "c3": "b3", "c4": "b4"}
"""Output of each layer before its clamp -> its bias."""


def convs(h: int | str = 10, w: int | str = 10) -> ir.Model:
    """Plain, depthwise, 1x1 and strided convolutions with a residual connection."""
    return parse(CONVS.format(h=h, w=w), CONSTANTS)


def round_down(done: Planned) -> None:
    """Round every weight towards minus infinity: the worst that rounding can do to a mean."""
    for unit in units(done.model.graph, done.plan):
        if unit.weight is None:
            continue
        entry = done.plan.values[unit.weight.name or ""]
        array = g.constant(unit.weight)
        assert entry.params is not None and array is not None
        scale = along_axis(entry.params.scale, entry.axis, array.ndim)
        low, high = limits(entry.dtype)
        done.plan.rounded[entry.name] = np.clip(np.floor(array / scale), low, high).astype(np.int8)


def mean_errors(done: Planned, outputs: Mapping[str, str], axis: int = 1) -> dict[str, np.ndarray]:
    """Mean over samples and positions of (quantized - float) a channel, of each layer's output."""
    names = list(outputs)
    reference = EXECUTOR.load(done.model, names, optimize=False)
    candidate = EXECUTOR.load(done.qdq(), names, exact=True, optimize=False)
    sums: dict[str, np.ndarray] = dict.fromkeys(names, np.zeros(1))
    count = dict.fromkeys(names, 0)
    for feed in done.feeds:
        both = zip(names, reference.run(feed), candidate.run(feed), strict=True)
        for name, wanted, got in both:
            error = np.moveaxis(got.astype(np.float64) - wanted, axis, 0)
            sums[name] = sums[name] + error.reshape(len(error), -1).sum(1)
            count[name] += error.size // len(error)
    return {name: sums[name] / count[name] for name in names}


def half_steps(plan: QuantPlan, outputs: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Half a step of each layer's bias: as near as a stored correction can come."""
    found = {}
    for name, bias in outputs.items():
        params = plan.values[bias].params
        assert params is not None
        found[name] = params.scale.astype(np.float64) / 2
    return found


def worst(errors: Mapping[str, np.ndarray], names: Sequence[str]) -> float:
    return max(float(np.abs(errors[name]).max()) for name in names)
