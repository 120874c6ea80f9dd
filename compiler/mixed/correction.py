"""Corrects the biases of plans that differ by what is float, from means gathered once."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from qcompile.compiler.calibration.collect import collect
from qcompile.core.executor import Executor, Feeds
from qcompile.core.plan import QuantPlan
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.passes.rounding.bias_correction import correct_biases, mean_request


@dataclass
class Corrector:
    """Bias correction in graph order, for one plan after another.

    A correction also makes up for what the layers before have done, so a plan with another layer
    float needs another one: with the old ones it looks worse than it is.

    Args:
        model: the graph that the plans are laid on.
        executor: runs pieces of it, with exact integer sums.
        feeds: the samples over which means are matched; held in memory.
        threads: samples in work at a time; no result depends on it.
    """

    model: ir.Model
    executor: Executor
    feeds: Sequence[Feeds]
    threads: int
    _means: dict[str, dict[str, object]] = field(default_factory=dict)

    def __call__(self, plan: QuantPlan) -> QuantPlan:
        """The plan with its biases corrected anew; as it is when it had no corrections."""
        if not plan.corrections or not self.feeds:
            return plan
        corrected = replace(plan, corrections={})
        correct_biases(
            self.model,
            corrected,
            self.executor,
            self.feeds,
            self._gathered(corrected),
            threads=self.threads,
        )
        return corrected

    def _gathered(self, plan: QuantPlan) -> Statistics:
        """The float means that a plan needs: those known, and those gathered for it."""
        wanted = mean_request(self.model.graph, plan, len(self.feeds))
        missing: StatisticRequest = {}
        for value, statistics in wanted.items():
            new = {n: f for n, f in statistics.items() if n not in self._means.get(value, {})}
            if new:
                missing[value] = new
        if missing:
            found = collect(self.executor, self.model, missing, self.feeds, threads=self.threads)
            for value, gathered in found.items():
                self._means.setdefault(value, {}).update(gathered)
        return self._means  # type: ignore[return-value]
