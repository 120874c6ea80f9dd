"""What each layer's quantization costs: the error of it alone, and of everything but it."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompile.compiler.mixed.groups import Group
from qcompile.compiler.mixed.leave_float import Replan, leave_float, only
from qcompile.compiler.mixed.pace import Pace
from qcompile.compiler.report.mixed import LayerSensitivity
from qcompile.compiler.scoring import Scorer
from qcompile.core.budget import Budget
from qcompile.core.plan import QuantPlan
from qcompile.passes.plan.patterns.table import pattern_names

SAMPLES = 24
"""Held-out samples on which layers are left float."""

FEW = 8
"""Held-out samples on which layers are the only ones that are integer: these differ by more."""


@dataclass
class Trials:
    """Scores of plans that differ from one plan by what is float, each worked out once.

    The scores are remembered by what the plan says and by the samples, for as long as this object
    lives; the plan's own parameters decide them, so that a changed plan is scored anew.

    Args:
        scorer: judges by the outputs on held-out samples, as if biases had been corrected: to do
            so for every plan would take most of the time, and orders the layers no better.
        few: the same on fewer samples.
        model: the graph that the plans are laid on.
        replan: decides modes and values anew.
    """

    scorer: Scorer
    few: Scorer
    model: ir.Model
    replan: Replan
    _known: dict[str, float] = field(default_factory=dict)

    def score(self, plan: QuantPlan) -> float:
        """Mean output SQNR in dB."""
        key = digest(plan)
        if key not in self._known:
            self._known[key] = self.scorer.score(plan, self.model)
        return self._known[key]

    def alone(self, plan: QuantPlan, group: Group) -> float:
        """Score with only this layer integer."""
        return self.few.score(only(plan, group.nodes), self.model)

    def without(self, plan: QuantPlan, group: Group) -> float:
        """Score with this layer float and the others as they are."""
        return self.score(leave_float(plan, {group.name: "tried"}, self.replan))


def sensitivity(
    trials: Trials,
    plan: QuantPlan,
    choices: Sequence[Group],
    *,
    alone: bool = True,
    pace: Pace | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[LayerSensitivity]:
    """Try every layer; the one whose float form gains most comes first.

    The layers tried first when time is short are those at the ends of the graph, which are the
    usual suspects, then the middle ones from both sides.

    Args:
        trials: scores plans.
        plan: the finished plan, with all parameters set.
        choices: the layers, in graph order.
        alone: also try each layer as the only integer one (as many trials again).
        pace: says when to stop; layers not tried by then are left out. None: never.
        advance: called after each layer.

    Returns:
        One row a layer, by falling gain, layers of equal gain in graph order.
    """
    pace = pace or Pace(Budget())
    if not pace.fits("layer"):
        return []
    whole = trials.score(plan)
    macs = sum(c.macs for c in choices) or 1
    weights = sum(c.weights for c in choices) or 1
    patterns = pattern_names(trials.model.graph)
    rows: dict[str, LayerSensitivity] = {}
    for group in _from_the_ends(choices):
        if not pace.fits("layer"):
            break
        with pace.trial("layer"):
            rows[group.name] = LayerSensitivity(
                node=group.name,
                op=group.op,
                gained_db=trials.without(plan, group) - whole,
                alone_db=trials.alone(plan, group) if alone else None,
                macs_share=group.macs / macs,
                weights_share=group.weights / weights,
                pattern=patterns.get(group.name, ""),
            )
        advance()
    in_order = [rows[group.name] for group in choices if group.name in rows]
    return sorted(in_order, key=lambda row: -row.gained_db)


def pareto(rows: Sequence[LayerSensitivity]) -> list[LayerSensitivity]:
    """The layers that no other one beats at both: more dB gained for fewer multiply-adds.

    Ordered by falling gain; layers that gain nothing are left out.
    """
    best: list[LayerSensitivity] = []
    for row in sorted(rows, key=lambda r: (-r.gained_db, r.macs_share)):
        if row.gained_db > 0 and (not best or row.macs_share < best[-1].macs_share):
            best.append(row)
    return best


def digest(plan: QuantPlan) -> str:
    """A hash of everything in a plan that decides what its QDQ graph computes."""
    made = hashlib.sha256(f"{plan.fingerprint} {plan.scheme}".encode())
    for node in plan.nodes.values():
        made.update(f"{node.name}\x1f{node.mode}\x1f{node.into}\x1e".encode())
    for value in plan.values.values():
        made.update(f"{value.name}\x1f{value.dtype}\x1f{value.axis}\x1e".encode())
        if value.params is not None:
            made.update(value.params.scale.tobytes() + value.params.zero_point.tobytes())
    for table in (plan.corrections, plan.rounded):
        for name, array in table.items():
            made.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return made.hexdigest()


def _from_the_ends(choices: Sequence[Group]) -> list[Group]:
    """The last, the first, the last but one, the second, and so on."""
    left, right = 0, len(choices) - 1
    order = []
    while left <= right:
        order.append(choices[right])
        if left != right:
            order.append(choices[left])
        left, right = left + 1, right - 1
    return order
