"""What plans cost as finished artefacts: bytes, and time here or on a device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from qcompile.compiler.mixed.stopwatch import FLOAT, OnDevice
from qcompile.compiler.quantizing import quantize
from qcompile.compiler.report.latency import Latency
from qcompile.compiler.verify.latency import compare_latency
from qcompile.core.app_info import APP_KEY, AppInfo
from qcompile.core.backend import IO_LAYOUT_KEY, SIMULATED_KEY
from qcompile.core.ends import FloatEnds
from qcompile.core.executor import Feeds, Session
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target
from qcompile.passes.plan.retype import retyped
from qcompile.targets.backends import backend_of
from qcompile.targets.devices.device import TimingPlan

SECONDS_A_MODEL = 0.4
"""Time spent on each of several models that are timed together."""


@dataclass(frozen=True)
class Artefacts:
    """Lowers plans as the build will, for one target.

    Args:
        model: the graph that the plans are laid on.
        target: what the artefacts are for.
        ends: type of their ends.
        io_layout: order of axes of the ends, as asked for.
        float_session: loads the float model in the artefact's runtime.
    """

    model: ir.Model
    target: Target
    ends: str
    io_layout: str | None
    float_session: Callable[[], FloatEnds]
    float_bytes: int
    """Of the user's model."""
    app: AppInfo | None = None
    """What goes into every artefact for the app that uses it."""
    watch: OnDevice | None = None
    """The device that plans are timed on; None for this process."""
    _made: dict[int, tuple[QuantPlan, bytes]] = field(default_factory=dict)

    def lower(self, plan: QuantPlan) -> bytes:
        """The artefact of a plan; the last few are remembered."""
        if id(plan) not in self._made:
            if len(self._made) > 2 * _TOGETHER:
                self._made.clear()
            self._made[id(plan)] = plan, self.made(plan)
        return self._made[id(plan)][1]

    def made(self, plan: QuantPlan) -> bytes:
        """The artefact of a plan, which is not remembered."""
        own = retyped(plan, self.target, self.ends)
        qdq = quantize(self.model, own)
        if self.target.simulated:
            qdq.metadata_props[SIMULATED_KEY] = plan.scheme
        if self.io_layout is not None:
            qdq.metadata_props[IO_LAYOUT_KEY] = self.io_layout
        if self.app is not None:
            qdq.metadata_props[APP_KEY] = self.app.to_json()
        return backend_of(self.target.runtime).lower(qdq, self.target).data

    def size(self, plan: QuantPlan) -> int:
        """Bytes of a plan's artefact."""
        return len(self.lower(plan))

    def times(self, plans: Mapping[str, QuantPlan], feeds: Feeds, *, floats: bool) -> Latency:
        """Time plans in one interleaved run; the first is what the others are compared with.

        Args:
            plans: plans by name.
            feeds: one sample, as the float model takes it.
            floats: also time the float model, as the last one, under the name ``float``.
        """
        if self.watch is not None:
            models = {name: self.lower(plan) for name, plan in plans.items()}
            models |= {FLOAT: self.watch.floats} if floats else {}
            return self.watch.time(models, TimingPlan(SECONDS_A_MODEL * len(models)))
        backend = backend_of(self.target.runtime)
        loaded = {}
        for name, plan in plans.items():
            made = self.lower(plan)
            loaded[name] = FloatEnds(backend.open(made), backend.facts(made).ends)
        if floats:
            loaded[FLOAT] = self.float_session()
        sessions: dict[str, Session] = {name: ends.session for name, ends in loaded.items()}
        fed = {name: [ends.feeds(feeds)] for name, ends in loaded.items()}
        return compare_latency(sessions, fed, budget=SECONDS_A_MODEL * len(loaded))


_TOGETHER = 8
"""Plans whose artefacts are held at a time."""
