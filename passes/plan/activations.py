"""From gathered statistics to the scale and zero point of every activation."""

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.errors import Code, QCompileError
from qcompile.core.numerics.affine import asymmetric_params, symmetric_params
from qcompile.core.plan import QuantParams, QuantPlan, Shared, ValuePlan, Widened, wide_name
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.statistics.min_max import MinMax
from qcompile.core.target import Target
from qcompile.passes.plan.output_values import output_values
from qcompile.passes.plan.ranges.method import MIN_MAX, RangeMethod, seen
from qcompile.passes.plan.shared_groups import is_moved, resolve_shared

_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs", "Sqrt"})


def observed_values(graph: ir.Graph, plan: QuantPlan, target: Target) -> list[ir.Value]:
    """The activations whose range must be measured, in graph order.

    Those of fixed parameters, constants, and what only moves inside a group need none.
    """
    found = []
    for value in g.values(graph):
        entry = plan.values.get(value.name or "")
        if entry is None or entry.role != "activation" or entry.params is not None:
            continue
        if g.constant(value) is None and not is_moved(value, plan, target):
            found.append(value)
    return found


def range_request(
    graph: ir.Graph, plan: QuantPlan, target: Target, method: RangeMethod
) -> StatisticRequest:
    """The statistics ``choose_activations`` needs."""
    return {
        value.name or "": method.statistics(is_nonnegative(value))
        for value in observed_values(graph, plan, target)
    }


def is_nonnegative(value: ir.Value) -> bool:
    """Whether the op that makes a value cannot give anything below zero."""
    node = value.producer()
    if node is None:
        return False
    if node.op_type == "Clip":
        low = g.scalar(node.inputs[1]) if len(node.inputs) > 1 else None
        return low is not None and low >= 0
    if node.op_type in {"MaxPool", "AveragePool", "GlobalAveragePool", "Reshape", "Flatten"}:
        source = node.inputs[0]
        return source is not None and is_nonnegative(source)
    return node.op_type in _NEVER_NEGATIVE


def choose_activations(
    graph: ir.Graph,
    plan: QuantPlan,
    target: Target,
    method: RangeMethod,
    name_of_method: str,
    statistics: Statistics,
) -> None:
    """Set the parameters of every activation entry of the plan.

    Members of a shared group get the union of the members' ranges. A constant operand gets the
    range of its own numbers. Outputs keep all that was seen, whatever the method.

    Raises:
        QCompileError: DATA_VALUES when a value was NaN or infinite for some sample.

    """
    ranges: dict[str, tuple[float, float]] = {}
    rules: dict[str, str] = {}
    outputs = output_values(graph)
    for value in observed_values(graph, plan, target):
        name = value.name or ""
        entry = plan.values[name]
        rule = name_of_method
        if value in outputs and isinstance(statistics[name].get(MIN_MAX), MinMax):
            low, high = seen(statistics[name])
            rule = rule if rule == "minmax" else "minmax of an output"
        else:
            low, high = method.choose(statistics[name], entry.dtype, entry.symmetric)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise QCompileError(
                Code.DATA_VALUES,
                f"value {name} became {low} .. {high} in the float model on the calibration data",
                hint="a float model that overflows cannot be calibrated; check the data's scaling",
            )
        _widen(ranges, _leader(entry), low, high)
        rules[_leader(entry)] = rule
    for value in graph.initializers.values():
        for entry in _constant_entries(value.name or "", plan):
            array = g.constant(value)
            if array is not None and array.size:
                leader = _leader(entry)
                _widen(ranges, leader, float(array.min()), float(array.max()))
                rules.setdefault(leader, "minmax of the constant")
    for name, (low, high) in ranges.items():
        entry = plan.values[name]
        # What has parameters has them from its kernel, or from the user.
        if entry.params is None and not isinstance(entry.relation, Widened):
            params = _params(entry, np.asarray(low), np.asarray(high))
            plan.values[name] = entry.with_params(params, rule=rules[name])
    resolve_shared(plan)


def _constant_entries(name: str, plan: QuantPlan) -> list[ValuePlan]:
    """The entries of a constant operand: as most read it, and as int16 nodes do."""
    entries = (plan.values.get(key) for key in (name, wide_name(name)))
    return [entry for entry in entries if entry is not None and entry.role == "activation"]


def _leader(entry: ValuePlan) -> str:
    return entry.relation.leader if isinstance(entry.relation, Shared) else entry.name


def _widen(ranges: dict[str, tuple[float, float]], name: str, low: float, high: float) -> None:
    old = ranges.get(name, (low, high))
    ranges[name] = (min(low, old[0]), max(high, old[1]))


def _params(entry: ValuePlan, low: np.ndarray, high: np.ndarray) -> QuantParams:
    if entry.symmetric:
        return QuantParams(*symmetric_params(np.maximum(-low, high), entry.dtype))
    return QuantParams(*asymmetric_params(low, high, entry.dtype))
