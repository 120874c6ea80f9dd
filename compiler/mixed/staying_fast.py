"""Where a build asks never to be slower than float: its finished plan in, the one to ship out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import onnx_ir as ir

from qcompile.compiler.data.dataset import Dataset
from qcompile.compiler.importers.onnx import Imported
from qcompile.compiler.mixed.again import made_anew
from qcompile.compiler.mixed.gates import Gates
from qcompile.compiler.mixed.leave_float import leave_float
from qcompile.compiler.mixed.never_slower import Chosen, NeverSlower
from qcompile.compiler.mixed.pace import Pace
from qcompile.compiler.mixed.records import Budgets, Setting
from qcompile.compiler.mixed.region_costs import Regions
from qcompile.compiler.mixed.setting import float_session
from qcompile.compiler.mixed.stopwatch import Here, Stopwatch, on_device
from qcompile.compiler.mixed.within import setting_for
from qcompile.compiler.options import BuildOptions
from qcompile.compiler.pipeline import Compiled
from qcompile.compiler.progress import Progress
from qcompile.compiler.quantizing import quantize
from qcompile.compiler.report.never_slower import choice_of
from qcompile.compiler.samples import Samples
from qcompile.compiler.scoring import Scorer
from qcompile.core.app_info import AppInfo
from qcompile.core.budget import Budget
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Executor, Feeds
from qcompile.core.notes import Note
from qcompile.core.plan import QuantPlan
from qcompile.core.schemes import FLOAT_SCHEMES
from qcompile.passes.plan.safe_weights import SaturationCount
from qcompile.targets.backends import backend_of
from qcompile.targets.cost_table import ROUGH, CostTable, costs_of
from qcompile.targets.devices.catalog import open_device
from qcompile.targets.host import runs_here

SCORED: Final = 24
"""Held-out samples on which the accuracy of the plans before and after is compared."""

MOST_LOST: Final = 0.1
"""dB that the outputs may lose before the plan is made anew with the same layers float."""


@dataclass(frozen=True)
class StayingFast:
    """A build as this step needs it.

    Args:
        options: of the build.
        source: the user's float model.
        imported: what was read of it.
        samples: of the build; one of them is what is timed.
        model: the canonical float graph.
        executor: runs graphs, with exact integer sums.
        progress: told of each stage.
        budget: of time, for the search and all that came before.
        app: what goes into every artefact for the app that uses it.
    """

    options: BuildOptions
    source: Path
    imported: Imported
    samples: Samples
    model: ir.Model
    executor: Executor
    progress: Progress
    budget: Budget
    app: AppInfo | None = None

    def run(self, compiled: Compiled) -> Compiled:
        """Leave float what takes longer as integers.

        Returns:
            What is to be built; its plan has the figures. As it was where nothing was asked.

        Raises:
            QCompileError: NO_DATA without a sample to run on; BAD_OPTION for several targets;
                DEVICE_UNFIT where nothing can be timed and there is no table of costs, or the
                device is not of the target's kind; as
                ``catalog.open_device``.
        """
        if not self.options.never_slower or self.options.scheme.scheme in FLOAT_SCHEMES:
            return replace(compiled, remake=None)
        if len(self.options.targets) > 1:
            raise QCompileError(
                Code.BAD_OPTION,
                "--never-slower times one target, and this builds for several from one plan",
                hint="--separate-plans makes a plan for each",
            )
        data = self._data()
        setting = setting_for(
            self.options,
            self.source,
            self.imported,
            data,
            self.model,
            compiled,
            self.executor,
            self.app,
        )
        regions = Regions(compiled.model.graph, compiled.plan, self.options.target)
        if not regions.groups:
            return replace(compiled, remake=None)
        with self._stopwatch(data[0].feeds) as watch:
            search = NeverSlower(
                regions,
                setting.artefacts[0].made,
                lambda layers: leave_float(
                    compiled.plan, dict.fromkeys(sorted(layers), ""), setting.replan
                ),
                self._table(watch),
                watch,
                self.budget,
                self.progress,
            )
            chosen = search.run()
            where = watch.where if watch is not None else _by_table(search.table)
        return self._made(compiled, setting, chosen, where)

    # --- what is timed, and where --------------------------------------------------------------

    def _data(self) -> Dataset:
        data = self.samples.calibration or self.samples.judged
        if data is None or len(data) == 0:
            raise QCompileError(
                Code.NO_DATA,
                "--never-slower runs the model, and there is no sample to run it on",
                hint="give data with -d or --eval",
            )
        return data

    @contextmanager
    def _stopwatch(self, feeds: Feeds) -> Iterator[Stopwatch | None]:
        """The device that was named, else this machine where it is the target; else None.

        An emulated device has no clock: the table of costs decides, and what comes of it is counted
        there at the end of the build.
        """
        options, target = self.options, self.options.targets[0]
        if options.devices.specs:
            devices = options.devices
            opened = open_device(devices.specs[0], timeout=devices.timeout, runner=devices.runner)
            with opened as device:
                table = costs_of(target.name)
                by_table = device.info.emulated and table is not None
                yield (
                    None if by_table else on_device(device, target, self.source, self.model, feeds)
                )
        elif options.latency and runs_here(target) and not target.simulated:
            load = float_session(options, self.source, self.model, target)
            yield Here(backend_of(target.runtime), load, feeds)
        else:
            yield None

    def _table(self, watch: Stopwatch | None) -> CostTable:
        target = self.options.targets[0]
        table = costs_of(target.name)
        if table is None and watch is None:
            raise QCompileError(
                Code.DEVICE_UNFIT,
                f"nobody has measured costs on {target.name}, and this machine is not one",
                hint="name a machine that is one with --device",
            )
        return ROUGH if table is None else table

    # --- the plan ------------------------------------------------------------------------------

    def _made(self, compiled: Compiled, setting: Setting, chosen: Chosen, where: str) -> Compiled:
        reasons = {
            name: choice_of(cost, is_float=True)
            for name, cost in chosen.costs.items()
            if name in chosen.layers
        }
        plan, saturation, said = self._accurate(compiled, setting, reasons)
        nodes = {
            name: replace(node, cost=chosen.costs.get(name)) for name, node in plan.nodes.items()
        }
        plan = replace(plan, nodes=nodes)
        notes = (*compiled.notes, *_notes(chosen, where), *said)
        made = replace(
            compiled,
            plan=plan,
            qdq=quantize(compiled.model, plan),
            saturation=saturation,
            notes=notes,
            remake=None,
        )
        return self._judged_again(made, setting) if self.options.has_budgets else made

    def _accurate(
        self, compiled: Compiled, setting: Setting, reasons: Mapping[str, str]
    ) -> tuple[QuantPlan, SaturationCount, list[Note]]:
        """The plan with its layers float, its biases corrected for it or made anew if need be.

        More layers in float lose less, but corrections that made up for what those layers did are
        wrong now; of what can be done about it the best by score is taken.
        """
        before = compiled.plan
        if not reasons:
            return before, compiled.saturation, []
        left = leave_float(before, reasons, setting.replan)
        if not self.options.scheme.needs_data:
            return left, compiled.saturation, []
        held = self._data()
        count = min(SCORED, len(held))
        feeds = [held[len(held) - 1 - i].feeds for i in range(count)]
        scorer = Scorer(self.model, self.executor, feeds, self.options.scheme.threads)
        old = scorer.score(before, compiled.model)
        with self.progress.stage("correct biases"):
            ways = [(left, compiled.saturation), (setting.correct(left), compiled.saturation)]
        scores = [scorer.score(plan, compiled.model) for plan, _ in ways]
        if max(scores) < old - MOST_LOST and setting.remake is not None:
            made = made_anew(setting.remake, left, self.budget)
            ways.append((made.plan, made.saturation))
            scores.append(scorer.score(made.plan, compiled.model))
        best = int(np.argmax(scores))
        level: Literal["info", "warning"] = "warning" if scores[best] < old - MOST_LOST else "info"
        text = (
            f"outputs {old:.1f} dB before layers were left float for time, {scores[best]:.1f} after"
        )
        return *ways[best], [Note(level, text)]

    def _judged_again(self, made: Compiled, setting: Setting) -> Compiled:
        """The budgets held against what is built now."""
        options = self.options
        budgets = Budgets(
            max_drop=options.max_drop,
            max_latency=options.max_latency,
            max_size=options.max_size,
            time=self.budget,
        )
        gates = Gates(setting, budgets, Pace(Budget()))
        mixed, times = made.mixed, made.mixed_times
        if mixed is None or times is None:
            return made
        return replace(
            made,
            mixed=replace(mixed, gates=gates.fixed(made.plan)),
            mixed_times=replace(times, gates=gates.clocked(made.plan)),
        )


def _by_table(table: CostTable) -> str:
    """What decided where nothing was timed."""
    if table.is_time:
        return f"by the table of costs of {table.target}; nothing was timed"
    return (
        f"a first guess by the {table.unit} in the table of {table.target}; "
        "measure on the device (--device)"
    )


def _notes(chosen: Chosen, where: str) -> list[Note]:
    """How the choice came about, without anything that a clock said but the choice itself."""
    count, total = len(chosen.layers), len(chosen.costs)
    text = f"{count} of {total} layers are float so that the model is not slower than float"
    if chosen.ratio is None:
        return [Note("warning", f"{text}: {where}")]
    found = [Note("info", f"{text}; {chosen.timed} plans were timed on {where}")]
    if chosen.ratio.verdict == "slower":
        found.append(Note("warning", "even so it is slower than float"))
    elif count == total:
        found.append(Note("warning", "whatever was integer made the model slower than float"))
    return found
