"""Bias correction in graph order: each layer's output mean is repaired on the quantized prefix."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.executor import Executor
from qcompile.core.numerics.affine import dequantize
from qcompile.core.plan import QuantPlan
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.statistics.mean_tensor import MeanTensor
from qcompile.core.units import Unit
from qcompile.passes.rounding.nearest import weight_integers
from qcompile.passes.rounding.prefix import QuantizedPrefix, cut

MEAN = "mean"
"""Name of the statistic this pass asks for."""

Shape = tuple[int, ...]
Means = dict[Shape, tuple[np.ndarray, int]]
"""Shape of the samples -> their mean, and how many there were."""


def mean_request(graph: ir.Graph, plan: QuantPlan, samples: int) -> StatisticRequest:
    """Ask for the float mean of every repairable layer's input over the first ``samples`` ones."""
    names = {_input_name(piece.unit) for piece in cut(graph, plan) if piece.unit is not None}
    return {name: {MEAN: _factory(samples)} for name in sorted(names)}


def _factory(samples: int) -> Callable[[], MeanTensor]:
    return lambda: MeanTensor(stop=samples)


def correct_biases(
    model: ir.Model,
    plan: QuantPlan,
    executor: Executor,
    feeds: Sequence[Mapping[str, np.ndarray]],
    statistics: Statistics,
    *,
    threads: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """Find what to add to each bias so that the layer's mean output is that of the float model.

    In graph order, with everything before the layer quantized and corrected already, for a layer
    ``y = f(x; W) + b`` that is linear in x (Nagel et al. 2019, section 4.2; the in-order form)::

        correction = mean(f(x_float; W)) - mean(f(x_quantized; W_quantized))    per output channel

    over samples and positions. Because f is linear, ``mean(f(x)) = mean_positions(f(mean(x)))``:
    the float side needs only the mean input that calibration has gathered, and each side one
    evaluation. The activation behind the layer never matters. All in all the samples go through
    the quantized graph once, layer by layer.

    Args:
        model: the canonical float graph; not changed.
        plan: with all parameters set. Its corrections are replaced as they are found.
        executor: runs the pieces, with exact integer sums.
        feeds: the very samples whose float means were gathered (the same on both sides matters:
            a mean over other samples is worse than none).
        statistics: holds ``MeanTensor`` under ``MEAN`` for each layer's input.
        threads: samples are spread over so many threads; the result does not depend on it.
        advance: called after each piece.

    Returns:
        Bias value name -> correction, float32 (channels,).

    """
    plan.corrections = {}
    pieces = cut(model.graph, plan)
    prefix = QuantizedPrefix(
        model.graph, plan, executor, feeds, threads, dict(model.graph.opset_imports)
    )
    prefix.start(pieces)
    for index, piece in enumerate(pieces):
        if piece.unit is not None:
            name = _input_name(piece.unit)
            float_means = _float_means(statistics[name][MEAN])
            quantized_means = _means(prefix.values(name))
            found = _correction(model, piece.unit, plan, executor, float_means, quantized_means)
            bias = piece.unit.bias
            if found is not None and bias is not None and bias.name is not None:
                plan.corrections[bias.name] = found
        prefix.run(pieces, index)
        advance()
    return plan.corrections


def _input_name(unit: Unit | None) -> str:
    assert unit is not None and unit.node.inputs[0] is not None
    return unit.node.inputs[0].name or ""


def _float_means(statistic: object) -> Means:
    assert isinstance(statistic, MeanTensor)
    return statistic.means


def _means(samples: Sequence[np.ndarray]) -> Means:
    """Mean of the samples of each shape, added up in order in float64."""
    sums: dict[Shape, tuple[np.ndarray, int]] = {}
    for sample in samples:
        total, count = sums.get(sample.shape, (np.zeros(sample.shape), 0))
        sums[sample.shape] = (total + sample, count + 1)
    return {shape: ((s / n).astype(np.float32), n) for shape, (s, n) in sums.items()}


def _correction(
    model: ir.Model,
    unit: Unit,
    plan: QuantPlan,
    executor: Executor,
    float_means: Means,
    quantized_means: Means,
) -> np.ndarray | None:
    shapes = [s for s, (_, n) in float_means.items() if quantized_means.get(s, (None, 0))[1] == n]
    weight = g.constant(unit.weight)
    assert unit.weight is not None and unit.weight.name is not None and weight is not None
    entry = plan.values[unit.weight.name]
    assert entry.params is not None
    integers = weight_integers(weight, entry, plan.rounded.get(entry.name))
    stored = dequantize(integers, entry.params.scale, entry.params.zero_point, entry.axis)
    session = executor.load(_linear_part(model, unit))
    total: np.ndarray | None = None
    positions = 0
    for shape in shapes:
        mean, count = float_means[shape]
        wanted = session.run({"x": mean, "w": weight})[0]
        got = session.run({"x": quantized_means[shape][0], "w": stored})[0]
        gap = np.moveaxis(wanted.astype(np.float64) - got, unit.channel_axis_of_output, -1)
        term = gap.reshape(-1, gap.shape[-1]).sum(axis=0) * count
        total = term if total is None else total + term
        positions += count * (gap.size // gap.shape[-1])
    return None if total is None or positions == 0 else (total / positions).astype(np.float32)


def _linear_part(model: ir.Model, unit: Unit) -> ir.Model:
    """``f(x; w)`` of a unit, without its bias, as a model of two inputs."""
    old = unit.node
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))
    w = ir.Value(name="w", type=ir.TensorType(ir.DataType.FLOAT), shape=_shape_of(old.inputs[1]))
    node = ir.Node(old.domain, old.op_type, [x, w], list(old.attributes.values()), num_outputs=1)
    y = node.outputs[0]
    y.name, y.type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [x, w], [y], nodes=[node], opset_imports=dict(model.graph.opset_imports), name="linear"
    )
    return ir.Model(graph, ir_version=10)


def _shape_of(value: ir.Value | None) -> ir.Shape | None:
    return None if value is None else value.shape
