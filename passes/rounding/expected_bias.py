"""Bias correction without samples: the mean error of a layer's weights on its expected input."""

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import dequantize
from qcompile.core.plan import QuantPlan
from qcompile.core.units import Unit, units
from qcompile.passes.plan.known_ranges import layer_mean
from qcompile.passes.plan.moments import Moments
from qcompile.passes.prepare.linear import layer_of
from qcompile.passes.rounding.nearest import weight_integers


def expect_biases(graph: ir.Graph, plan: QuantPlan, known: dict[str, Moments]) -> None:
    """Set the correction of every bias whose layer's mean input is known.

    With ``e = W_quantized - W``, the output is off by ``e E[x]`` in the mean (Nagel et al. 2019,
    section 4.2.1), where E[x] is the mean of a clipped normal. What rounding activations adds is
    not known, and the border, where a kernel sees padding, is taken for the rest.

    Args:
        graph: the canonical float graph.
        plan: with all parameters set; its corrections are replaced.
        known: ``passes.plan.known_ranges.known_moments`` of the graph.
    """
    plan.corrections = {}
    for unit in units(graph, plan):
        found = _correction(unit, plan, known)
        bias = unit.bias
        if found is not None and bias is not None and np.any(found):
            plan.corrections[bias.name or ""] = found


def _correction(unit: Unit, plan: QuantPlan, known: dict[str, Moments]) -> np.ndarray | None:
    layer = layer_of(unit.node)
    data = unit.node.inputs[0]
    moments = known.get(data.name or "") if data is not None else None
    bias, weight = unit.bias, unit.weight
    if layer is None or moments is None or weight is None or bias is None:
        return None
    entry = plan.quantized(weight.name)
    if entry is None or entry.params is None or (bias.name or "") not in plan.values:
        return None
    if layer.channel_axis != 1 or len(moments.mean) not in {1, layer.in_channels}:
        return None
    array = g.constant(weight)
    assert array is not None
    integers = weight_integers(array, entry, plan.rounded.get(entry.name))
    stored = dequantize(integers, entry.params.scale, entry.params.zero_point, entry.axis)
    error = stored.astype(np.float64) - array
    return -layer_mean(layer, moments.mean, error).astype(np.float32)
