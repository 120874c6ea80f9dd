"""Where a build asks for budgets or a list of layers: its finished plan in, the one to ship out."""

from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from qcompile.compiler.data.dataset import Dataset
from qcompile.compiler.importers.onnx import Imported
from qcompile.compiler.mixed.keep import keep_budgets
from qcompile.compiler.mixed.records import Budgets, Setting
from qcompile.compiler.mixed.setting import setting_of
from qcompile.compiler.mixed.timed_where import timed_where_asked
from qcompile.compiler.options import BuildOptions
from qcompile.compiler.pipeline import Compiled
from qcompile.compiler.planning import correction_samples, empty_plan
from qcompile.compiler.progress import Progress
from qcompile.compiler.quantizing import quantize
from qcompile.compiler.samples import FeedsOf
from qcompile.compiler.search.efforts import HELD_OUT, held_out
from qcompile.core.app_info import AppInfo
from qcompile.core.budget import Budget
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Executor, Feeds
from qcompile.core.parallel import ordered_map
from qcompile.core.plan import Chosen, QuantPlan


@dataclass(frozen=True)
class Division:
    """Which calibration samples biases are corrected over, and which are left to judge on."""

    corrected: range
    held: range


def divide(model: ir.Model, plan: QuantPlan, count: int) -> Division:
    """Divide calibration samples as the efforts do; few samples serve for both.

    Args:
        model: the canonical float graph.
        plan: a plan for it.
        count: how many samples there are.
    """
    corrected = correction_samples(model, plan, count - held_out(count))
    rest = range(corrected, count)
    return Division(range(corrected), rest if len(rest) >= HELD_OUT[0] else range(count))


def within_budgets(
    options: BuildOptions,
    source: Path,
    imported: Imported,
    calibration: Dataset | None,
    model: ir.Model,
    compiled: Compiled,
    executor: Executor,
    progress: Progress,
    budget: Budget,
    app: AppInfo | None = None,
) -> Compiled:
    """Leave layers float as the budgets of a build demand.

    Args:
        options: of the build; they have the budgets.
        source: the user's float model.
        imported: what was read of it.
        calibration: the samples that the plan was made with, in its order.
        model: the canonical float graph.
        compiled: the finished plan.
        executor: runs graphs, with exact integer sums.
        progress: told of each stage.
        budget: of time, for the search and all that came before.
        app: what goes into every artefact for the app that uses it.

    Returns:
        What is to be built, with the evidence; unchanged when nothing was asked for.

    Raises:
        QCompileError: NO_DATA when there are no samples to judge on.
    """
    budgets = Budgets(
        max_drop=options.max_drop,
        max_latency=options.max_latency,
        max_size=options.max_size,
        time=budget,
    )
    if not budgets.any and not options.sensitivity:
        return compiled
    if calibration is None or len(calibration) == 0:
        raise QCompileError(
            Code.NO_DATA,
            "budgets and the list of layers need samples to judge on",
            hint="give calibration data with -d",
        )
    setting = setting_for(options, source, imported, calibration, model, compiled, executor, app)
    listing = options.sensitivity
    with timed_where_asked(options, source, model, setting) as asked:
        kept = keep_budgets(asked, compiled.plan, budgets, progress, listing=listing)
    told = replace(compiled, mixed=kept.mixed, mixed_times=kept.times)
    if kept.plan is compiled.plan:
        return told
    if kept.remade is not None:
        told = replace(told, saturation=kept.remade.saturation)
    return replace(told, plan=kept.plan, qdq=quantize(compiled.model, kept.plan))


def setting_for(
    options: BuildOptions,
    source: Path,
    imported: Imported,
    calibration: Dataset,
    model: ir.Model,
    compiled: Compiled,
    executor: Executor,
    app: AppInfo | None = None,
) -> Setting:
    """What a search among plans like that of a build works with; see ``within_budgets``."""
    division = divide(model, compiled.plan, len(calibration))

    def replan(chosen: Chosen) -> QuantPlan:
        floats = imported.float_nodes
        return empty_plan(compiled.model, options.target, options.scheme, floats, chosen)

    return setting_of(
        options,
        source,
        sum(file.stat().st_size for file in imported.weight_files),
        model,
        compiled.model,
        executor,
        calibration,
        division.held,
        _first(calibration, division.corrected, options) if compiled.plan.corrections else [],
        replan,
        compiled.remake,
        app,
    )


def _first(calibration: Dataset, which: range, options: BuildOptions) -> list[Feeds]:
    feeds = FeedsOf(calibration)
    return ordered_map(lambda i: feeds[i], which, options.scheme.threads)
