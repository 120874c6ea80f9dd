"""Brings together what a search for budgets works with: held-out samples, artefacts, scores."""

from collections.abc import Callable, Sequence
from pathlib import Path

import onnx_ir as ir

from qcompile.compiler import measure
from qcompile.compiler.data.dataset import Dataset
from qcompile.compiler.mixed.correction import Corrector
from qcompile.compiler.mixed.cost import Artefacts
from qcompile.compiler.mixed.judge import Judge
from qcompile.compiler.mixed.leave_float import Replan
from qcompile.compiler.mixed.records import Setting
from qcompile.compiler.mixed.sensitivity import FEW, SAMPLES, Trials
from qcompile.compiler.options import BuildOptions
from qcompile.compiler.scoring import Scorer
from qcompile.compiler.search.workshop import Remake
from qcompile.core.app_info import AppInfo
from qcompile.core.backend import IO_LAYOUT_KEY
from qcompile.core.ends import FloatEnds
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Executor, Feeds
from qcompile.core.target import Target
from qcompile.targets.backends import backend_of
from qcompile.targets.host import runs_here


def setting_of(
    options: BuildOptions,
    source: Path,
    source_bytes: int,
    reference: ir.Model,
    model: ir.Model,
    executor: Executor,
    calibration: Dataset,
    held: Sequence[int],
    corrected_on: Sequence[Feeds],
    replan: Replan,
    remake: Remake | None = None,
    app: AppInfo | None = None,
) -> Setting:
    """The setting of one build.

    Args:
        options: of the build.
        source: the user's float model, and
        source_bytes: its size with external data.
        reference: the canonical float graph.
        model: the graph that the plan is laid on; ``reference`` or a transformed one.
        executor: runs graphs, with exact integer sums.
        calibration: the samples that the plan was made with, in its order.
        held: indices of those that took no part in making it.
        corrected_on: the samples over which the plan's biases were corrected; held in memory.
        replan: decides modes and values anew.
        remake: makes the plan anew from its recipe.
        app: what goes into every artefact for the app that uses it.

    Raises:
        QCompileError: BAD_OPTION or DEVICE_UNFIT when time is limited and is not to be, or cannot
            be, measured; DATA_EMPTY when there is nothing to judge on.
    """
    if len(held) == 0:
        raise QCompileError(
            Code.DATA_EMPTY,
            "budgets are kept on held-out calibration samples, and there are none",
            hint="give calibration data with -d",
        )
    here = [target for target in options.targets if runs_here(target)]
    if options.max_latency is not None and not options.latency:
        raise QCompileError(
            Code.BAD_OPTION, "--max-latency needs latency", hint="leave out --no-latency"
        )
    there = options.max_latency is not None and bool(options.devices.specs)
    if options.max_latency is not None and not here and not there:
        names = ", ".join(target.name for target in options.targets)
        raise QCompileError(
            Code.DEVICE_UNFIT,
            f"--max-latency is measured, and this machine is not one that {names} is made for",
            hint="name a machine that is one with --device",
        )
    threads = options.scheme.threads
    few = [calibration[i].feeds for i in held[:SAMPLES]]
    order = sorted(range(len(options.targets)), key=lambda i: options.targets[i] not in here)
    return Setting(
        model=model,
        target=options.target,
        replan=replan,
        trials=Trials(
            Scorer(reference, executor, few, threads, corrected=True),
            Scorer(reference, executor, few[:FEW], threads, corrected=True),
            model,
            replan,
        ),
        judge=Judge(reference, model, executor, calibration, held, threads, options.metric),
        artefacts=[
            Artefacts(
                model,
                options.targets[i],
                options.ends[i],
                options.io_layout,
                float_session(options, source, reference, options.targets[i]),
                source_bytes,
                app,
            )
            for i in order
        ],
        timed=few[0] if (here or there) and options.latency else None,
        correct=Corrector(model, executor, corrected_on, threads),
        remake=remake,
    )


def float_session(
    options: BuildOptions, source: Path, reference: ir.Model, target: Target
) -> Callable[[], FloatEnds]:
    """Loads the float model in a runtime: the user's file, or as the back end writes it."""
    backend = backend_of(target.runtime)

    def load() -> FloatEnds:
        if backend.runs_float_file:
            return FloatEnds(measure.Reference(source, options.shapes).session(), {})
        if options.io_layout is not None:
            reference.metadata_props[IO_LAYOUT_KEY] = options.io_layout
        made = backend.lower(reference, target).data
        return FloatEnds(backend.open(made), backend.facts(made).ends)

    return load
