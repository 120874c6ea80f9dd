"""What a search for budgets is given, and what it gives back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from qcompile.compiler.budgets import Limit
from qcompile.compiler.mixed.cost import Artefacts
from qcompile.compiler.mixed.judge import Judge
from qcompile.compiler.mixed.leave_float import Replan
from qcompile.compiler.mixed.sensitivity import Trials
from qcompile.compiler.report.mixed import Mixed, MixedTimes
from qcompile.compiler.search.recipe import Candidate
from qcompile.compiler.search.workshop import Remake
from qcompile.core.budget import Budget
from qcompile.core.executor import Feeds
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """What a plan has to keep; None means that nothing was asked."""

    max_drop: float | None = None
    """Most points of the metric that may be lost (see ``Judge``)."""
    max_latency: Limit | None = None
    max_size: Limit | None = None
    time: Budget = field(default_factory=Budget)
    """How long the search may take."""

    @property
    def any(self) -> bool:
        """Whether anything was asked of the artefact."""
        return (self.max_drop, self.max_latency, self.max_size) != (None, None, None)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a search works with.

    Args:
        model: the graph that the plan is laid on.
        target: what the plan is made for.
        replan: decides modes and values anew, given what must be float.
        trials: scores plans on held-out samples.
        judge: works out the points that plans lose.
        artefacts: lower plans for each target; the first one is also timed.
        timed: the sample to time with; None where the target does not run here.
        correct: corrects the biases of a plan anew, over all samples that were used for it.
        remake: makes the plan from its recipe anew; None where it has none.
    """

    model: ir.Model
    target: Target
    replan: Replan
    trials: Trials
    judge: Judge
    artefacts: Sequence[Artefacts]
    timed: Feeds | None
    correct: Callable[[QuantPlan], QuantPlan]
    remake: Remake | None = None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The plan that was chosen, and the evidence."""

    plan: QuantPlan
    mixed: Mixed
    times: MixedTimes
    remade: Candidate | None = None
    """Where the plan was made anew from a recipe."""
