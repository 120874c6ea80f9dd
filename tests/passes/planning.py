"""Plans small models given as text the way the pipeline does, for tests of the passes that plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.compiler.calibration.collect import collect
from qcompile.core.executor import Session
from qcompile.core.graph import fingerprint
from qcompile.core.plan import QuantPlan
from qcompile.core.statistics.base import Statistics
from qcompile.core.target import Target
from qcompile.passes.plan.activations import choose_activations, range_request
from qcompile.passes.plan.assign import assign_dynamic, assign_static
from qcompile.passes.plan.bias_range import fit_biases
from qcompile.passes.plan.ranges.min_max import MinMaxRange
from qcompile.passes.plan.tables import plan_tables
from qcompile.passes.plan.values import plan_values
from qcompile.passes.plan.weights import choose_weights
from qcompile.passes.quantize.insert_qdq import InsertQDQ
from qcompile.passes.rounding.bias_correction import mean_request
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.executor import OrtExecutor

TARGET = load_target("ort-arm64")
"""A target without saturation: what is planned for it is what was asked for."""
EXECUTOR = OrtExecutor()
Feed = Mapping[str, np.ndarray]


def draft(
    model: ir.Model,
    *,
    target: Target = TARGET,
    ends: str = "float",
    scheme: str = "w8a8",
    float_nodes: Mapping[str, str] | None = None,
    wide_nodes: Mapping[str, str] | None = None,
) -> QuantPlan:
    """Modes of nodes and entries of values, before any parameters."""
    plan = QuantPlan(fingerprint(model), target.name, scheme, ends=ends)
    if scheme == "w8a8-dynamic":
        plan.nodes = assign_dynamic(model.graph, target, float_nodes or {}).nodes
    else:
        plan.nodes = assign_static(model.graph, target, float_nodes or {}, wide_nodes or {}).nodes
    plan_values(model.graph, plan, target)
    plan_tables(model.graph, plan, target, {})
    return plan


@dataclass(frozen=True)
class Planned:
    """A float graph with everything that was measured and decided about it."""

    model: ir.Model
    plan: QuantPlan
    statistics: Statistics
    feeds: Sequence[Feed]

    def qdq(self, ends: Sequence[str] = ()) -> ir.Model:
        """The QDQ graph, in a new model."""
        clone = self.model.clone()
        InsertQDQ(self.plan, frozenset(ends))(clone)
        return clone


def planned(
    model: ir.Model,
    feeds: Sequence[Feed],
    *,
    target: Target = TARGET,
    ends: str = "float",
    granularity: str | None = None,
    float_nodes: Mapping[str, str] | None = None,
    wide_nodes: Mapping[str, str] | None = None,
) -> Planned:
    """A complete plan, from the ranges and means seen on the feeds."""
    plan = draft(model, target=target, ends=ends, float_nodes=float_nodes, wide_nodes=wide_nodes)
    method = MinMaxRange()
    request = range_request(model.graph, plan, target, method)
    for name, wanted in mean_request(model.graph, plan, len(feeds)).items():
        request[name] = {**request.get(name, {}), **wanted}
    statistics = collect(EXECUTOR, model, request, feeds, threads=1)
    choose_activations(model.graph, plan, target, method, "minmax", statistics)
    choose_weights(model.graph, plan, target, granularity)
    fit_biases(model.graph, plan, target.sum_bits)
    return Planned(model, plan, statistics, feeds)


def modes(plan: QuantPlan) -> dict[str, str]:
    """Mode of every node."""
    return {name: entry.mode for name, entry in plan.nodes.items()}


def why(plan: QuantPlan, node: str) -> str:
    """The reason of a node that was left float."""
    assert plan.mode(node) == "float", plan.nodes[node]
    return plan.nodes[node].reason


def session(model: ir.Model, *, optimize: bool = False) -> Session:
    """A session with exact integer sums."""
    return EXECUTOR.load(model, exact=True, optimize=optimize)


def pictures(*shape: int, count: int = 4, name: str = "x", scale: float = 1.0) -> list[Feed]:
    """Seeded noise, shifted so that its mean is not zero."""
    rng = np.random.default_rng(11)
    return [
        {name: (scale * (rng.standard_normal(shape) + 0.5)).astype(np.float32)}
        for _ in range(count)
    ]
