"""A planned network with a branch, whose layers have made-up times, for searches by time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from qcompile.compiler.mixed.leave_float import leave_float
from qcompile.compiler.mixed.region_costs import Regions
from qcompile.core.plan import Chosen, QuantPlan
from tests.passes.planning import TARGET, draft
from tests.passes.planning import planned as plan_of
from tests.passes.prepare.checking import parse, rand

SHAPE = "float[1, 4, 8, 8]"


def network() -> ir.Model:
    """Four convolutions, two of them equal, a sum and a pool."""
    return parse(
        f"g ({SHAPE} x) => (float[] y) {{"
        " a = Conv (x, w1) b = Relu (a) c = Conv (b, w2) d = Relu (c) r = Conv (d, w3) e = Relu (r)"
        " s = Add (e, b) f = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (s, w4)"
        " y = GlobalAveragePool (f) }",
        {
            "w1": rand(8, 4, 1, 1),
            "w2": rand(8, 8, 1, 1),
            "w3": rand(8, 8, 1, 1),
            "w4": rand(8, 8, 3, 3),
        },
    )


@dataclass(frozen=True)
class Planned:
    """The network, its plan, and how plans of it are made."""

    model: ir.Model
    plan: QuantPlan

    @property
    def regions(self) -> Regions:
        return Regions(self.model.graph, self.plan, TARGET)

    def leave_float(self, layers: frozenset[str]) -> QuantPlan:
        return leave_float(self.plan, dict.fromkeys(sorted(layers), ""), self._replan)

    def _replan(self, chosen: Chosen) -> QuantPlan:
        return draft(self.model, float_nodes=dict(chosen.float_nodes))


def planned() -> Planned:
    model = network()
    made = plan_of(model, [{"x": rand(1, 4, 8, 8)} for _ in range(2)])
    return Planned(model, made.plan)


def only_modes(planned: Planned, layers: frozenset[str]) -> QuantPlan:
    """The plan with the modes of some layers changed and nothing else decided anew."""
    floats = {n for gr in planned.regions.groups if gr.name in layers for n in gr.nodes}
    nodes = {
        name: replace(node, mode="float", into=None) if name in floats else node
        for name, node in planned.plan.nodes.items()
    }
    return replace(planned.plan, nodes=nodes)


def total(parts: Mapping[str, float], times: Mapping[str, float]) -> float:
    return sum(count * times[part] for part, count in parts.items())
