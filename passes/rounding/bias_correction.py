"""Bias correction in graph order: each layer's output mean is repaired on the quantized prefix."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.executor import Executor
from qcompile.core.numerics.affine import dequantize
from qcompile.core.plan import QuantPlan
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.units import Unit
from qcompile.passes.rounding.input_means import MeanForm, MeanInput, choose_forms
from qcompile.passes.rounding.nearest import weight_integers
from qcompile.passes.rounding.prefix import QuantizedPrefix, cut
from qcompile.passes.rounding.walk import walk


def mean_request(graph: ir.Graph, plan: QuantPlan, samples: int) -> StatisticRequest:
    """Ask for the float mean of every repairable layer's input over the first ``samples`` ones."""
    forms = choose_forms([p.unit for p in cut(graph, plan) if p.unit is not None])
    request: StatisticRequest = {}
    for form in forms.values():
        request.setdefault(form.value.name or "", {})[form.statistic] = form.factory(samples)
    return request


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
        statistics: holds what ``mean_request`` asked for.
        threads: samples are spread over so many threads; the result does not depend on it.
        advance: called after each piece.

    Returns:
        Bias value name -> correction, float32 (channels,).
    """
    corrector = BiasCorrector(model, plan, executor, statistics, len(feeds))
    walk(model, plan, cut(model.graph, plan), executor, feeds, corrector.correct, threads, advance)
    return plan.corrections


class BiasCorrector:
    """Corrects the biases of the units of one plan, each when the prefix has come to it.

    The plan's old corrections are dropped when it is made.
    """

    def __init__(
        self,
        model: ir.Model,
        plan: QuantPlan,
        executor: Executor,
        statistics: Statistics,
        samples: int,
    ) -> None:
        self._model, self._plan, self._executor = model, plan, executor
        self._statistics, self._samples = statistics, samples
        self._forms = choose_forms([p.unit for p in cut(model.graph, plan) if p.unit is not None])
        plan.corrections = {}

    def will_correct(self, unit: Unit) -> bool:
        """Whether the bias of a unit takes up the mean error of its weights."""
        return unit.node in self._forms

    def correct(self, unit: Unit, prefix: QuantizedPrefix) -> None:
        """Store the correction of a unit, for the very integers the plan has now."""
        form, bias = self._forms.get(unit.node), unit.bias
        if form is None or bias is None:
            return
        name = form.value.name or ""
        found = _correction(
            _Layer(self._model, unit, self._plan, self._executor, form),
            form.gathered(self._statistics[name][form.statistic]),
            form.of(prefix.values(name), self._samples),
        )
        if found is not None:
            self._plan.corrections[bias.name or ""] = found


class _Layer:
    """One layer without its bias: evaluates ``f(x; W)`` with float and with stored weights."""

    def __init__(
        self, model: ir.Model, unit: Unit, plan: QuantPlan, executor: Executor, form: MeanForm
    ) -> None:
        weight = g.constant(unit.weight)
        assert unit.weight is not None
        assert weight is not None
        entry = plan.values[unit.weight.name or ""]
        assert entry.params is not None
        integers = weight_integers(weight, entry, plan.rounded.get(entry.name))
        params = entry.params
        self.float_weight = weight
        self.stored_weight = dequantize(integers, params.scale, params.zero_point, entry.axis)
        self.axis = unit.channel_axis_of_output
        self.session = executor.load(_linear_part(model, unit, padded=form.whole))

    def sums(self, x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, int]:
        """Sum over all output positions a channel, and their number."""
        y = np.moveaxis(self.session.run({"x": x, "w": weight})[0], self.axis, -1)
        flat = y.reshape(-1, y.shape[-1]).astype(np.float64)
        return flat.sum(axis=0), flat.shape[0]


def _correction(
    layer: _Layer, wanted: Sequence[MeanInput], got: Sequence[MeanInput]
) -> np.ndarray | None:
    """The gap between the two means; None when the two sides did not see the same samples."""
    theirs = {m.x.shape: m for m in got}
    total, positions = None, 0
    for mean in wanted:
        other = theirs.get(mean.x.shape)
        if other is None or other.count != mean.count:
            continue
        a, n = layer.sums(mean.x, layer.float_weight)
        b, _ = layer.sums(other.x, layer.stored_weight)
        term = (a - b) * mean.count
        total = term if total is None else total + term
        positions += n * mean.count
    return None if total is None or positions == 0 else (total / positions).astype(np.float32)


def _linear_part(model: ir.Model, unit: Unit, *, padded: bool) -> ir.Model:
    """``f(x; w)`` of a unit, without its bias, as a model of two inputs.

    Without padding, an input of the size of the kernel gives one position.
    """
    old = unit.node
    drop = set() if padded else {"pads", "auto_pad", "strides"}
    attributes = [attr for key, attr in old.attributes.items() if key not in drop]
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))
    w = ir.Value(name="w", type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.Node(old.domain, old.op_type, [x, w], attributes, num_outputs=1)
    y = node.outputs[0]
    y.name, y.type = "y", ir.TensorType(ir.DataType.FLOAT)
    opsets = dict(model.graph.opset_imports)
    graph = ir.Graph([x, w], [y], nodes=[node], opset_imports=opsets, name="linear")
    return ir.Model(graph, ir_version=10)
