"""The budgets of one plan as gates: what it loses, how large it is, how long it takes."""

from dataclasses import dataclass, field

from qcompile.compiler.budgets import Limit
from qcompile.compiler.mixed.cost import Artefacts
from qcompile.compiler.mixed.margins import Estimate
from qcompile.compiler.mixed.pace import Pace
from qcompile.compiler.mixed.records import Budgets, Setting
from qcompile.compiler.mixed.sensitivity import digest
from qcompile.compiler.report.mixed import Gate
from qcompile.core.plan import QuantPlan


@dataclass
class Gates:
    """Works out each figure of a plan once.

    A budget on accuracy is kept when the expected loss is inside; the remark says how sure that is.
    """

    setting: Setting
    budgets: Budgets
    pace: Pace
    _drops: dict[str, Estimate] = field(default_factory=dict)
    _timed: dict[str, Gate] = field(default_factory=dict)

    def drop(self, plan: QuantPlan) -> Estimate:
        """The points that a plan loses."""
        key = digest(plan)
        if key not in self._drops:
            with self.pace.trial("judge"):
                self._drops[key] = self.setting.judge.drop(plan)
        return self._drops[key]

    def known_drop(self, plan: QuantPlan) -> Estimate | None:
        """The points that a plan loses, if they were worked out."""
        return self._drops.get(digest(plan))

    def all(self, plan: QuantPlan) -> tuple[Gate, ...]:
        """Every budget that was set, the cheapest to look at first."""
        return (*self.fixed(plan), *self.clocked(plan))

    def pass_for(self, plan: QuantPlan) -> bool:
        """Whether a plan keeps all budgets."""
        return all(gate.passed for gate in self.all(plan))

    def fixed(self, plan: QuantPlan) -> tuple[Gate, ...]:
        """Those that no clock decides."""
        gates: list[Gate] = []
        size, limit = self.budgets.max_size, self.budgets.max_drop
        if size is not None:
            gates += [_size_gate(made, plan, size) for made in self.setting.artefacts]
        if limit is not None:
            drop = self.drop(plan)
            metric = f"points of {self.setting.judge.metric}{_interval(drop)}"
            gates.append(_gate("max-drop", limit, drop.points, metric))
        return tuple(gates)

    def clocked(self, plan: QuantPlan) -> tuple[Gate, ...]:
        """The budget of time; a plan is timed once, so that its answer stays the same."""
        budget, feeds = self.budgets.max_latency, self.setting.timed
        if budget is None or feeds is None:
            return ()
        key = digest(plan)
        if key not in self._timed:
            made = self.setting.artefacts[0]
            found = made.times({"integer": plan}, feeds, floats=True)
            integer, floats = (timing.median_ms for timing in found.timings)
            remark = "ms, the median of one thread"
            remark += f" on {made.watch.where}" if made.watch is not None else ""
            self._timed[key] = _gate("max-latency", budget.amount(floats), integer, remark)
        return (self._timed[key],)


def _interval(drop: Estimate) -> str:
    if drop.low is None or drop.high is None:
        return ""
    return f"; 95 %: {drop.low:.2g} to {drop.high:.2g}"


def _size_gate(made: Artefacts, plan: QuantPlan, most: Limit) -> Gate:
    limit, size = most.amount(made.float_bytes), made.size(plan)
    return _gate("max-size", limit, size, f"bytes for {made.target.name}")


def _gate(name: str, limit: float, value: float, remark: str) -> Gate:
    return Gate(name=name, limit=limit, value=value, passed=value <= limit, remark=remark)
