"""The public functions: build, check, inspect. The command line is a thin layer over them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qcompile.compiler.build import Build, artefact_suffix
from qcompile.compiler.check import Check
from qcompile.compiler.config import BuildConfig, load_config
from qcompile.compiler.data.options import DataSpec
from qcompile.compiler.finish import BuildResult
from qcompile.compiler.inputs import check_dump_dir, input_paths
from qcompile.compiler.inspection import inspect_file
from qcompile.compiler.options import (
    EFFORTS,
    GRANULARITIES,
    LAYOUTS,
    SCHEMES,
    BuildOptions,
    Scheme,
    check_choice,
    ends_of,
)
from qcompile.compiler.output import PLAN, PLAN_ARRAYS, REPORT, OutputSet
from qcompile.compiler.progress import Progress, Silent
from qcompile.compiler.report.model import CheckReport, InspectReport
from qcompile.compiler.saved_plan import SavedPlan, read_plan
from qcompile.compiler.verify.gates import Limits
from qcompile.core.errors import Code, QCompileError
from qcompile.core.target import FLOAT_SCHEMES, Target
from qcompile.passes.plan.ranges.table import RANGE_METHODS
from qcompile.targets.catalog import load_target, target_names
from qcompile.targets.host import host_target

__all__ = ["BuildResult", "build", "build_for", "check", "inspect"]


def build(
    model: str | Path,
    *,
    target: str | Path | None = None,
    data: DataSpec | None = None,
    eval_data: DataSpec | None = None,
    out: str | Path | None = None,
    scheme: str | None = None,
    effort: str | None = None,
    ranges: str | None = None,
    granularity: str | None = None,
    ends: str | None = None,
    io_layout: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    plan: str | Path | None = None,
    random_data: bool = False,
    labels: str | Path | None = None,
    config: str | Path | None = None,
    seed: int | None = None,
    threads: int | None = None,
    dump_dir: str | Path | None = None,
    time_passes: bool = False,
    latency: bool = True,
    progress: Progress | None = None,
) -> BuildResult:
    """Turn a float model into an integer one.

    What is left out comes from ``qcompile.toml`` (see ``config``), else from the default in
    brackets.

    Args:
        model: an .onnx file.
        target: name of a target, or a description file of your own [the best one for this machine].
        data: samples that give the ranges; see ``compiler.data.open.open_data``.
        eval_data: samples that accuracy is judged on [a fifth of ``data`` is held out].
        out: the artefact to write; beside it ``.report.json``, ``.plan.json`` and ``.plan.npz``.
            None writes nothing.
        scheme: ``w8a8``, ``w8a16``, ``w8a8-dynamic``, ``fp16`` or ``float``, as far as the
            target has kernels [w8a8].
        effort: ``fast`` [fast].
        ranges: ``minmax``, ``percentile``, ``entropy`` or ``mse`` [minmax].
        granularity: ``tensor`` or ``channel``, for weights [chosen layer by layer].
        ends: ``float``, or the target's activation type, for inputs and outputs [the target's].
        io_layout: ``nhwc`` or ``nchw``, for TFLite: how pictures are given and taken [nhwc].
        shapes: input name -> shape, to fix dimensions that are not known.
        plan: a saved plan to build from; then no data are needed, and what it was made for
            (target, scheme, ends) is the default.
        random_data: build on noise if there are no data; the result is unfit to ship.
        labels: label file of the samples that accuracy is judged on.
        config: configuration file [qcompile.toml, or [tool.qcompile] of pyproject.toml].
        seed: of the held-out share and of the order of samples [0].
        threads: samples in work at a time [the processors here]; no result depends on it.
        dump_dir: folder for the graph after each pass.
        time_passes: list the time of each pass in the report.
        latency: time the artefact beside the float model, if this machine is the target.
        progress: is told of each stage.

    Returns:
        The artefact, its report and plan; shows its report in a notebook.

    Raises:
        QCompileError: for everything that cannot be built, with a code and what to do about it.
    """
    jobs = _job(
        model,
        targets=() if target is None else (target,),
        data=data,
        eval_data=eval_data,
        scheme=scheme,
        effort=effort,
        ranges=ranges,
        granularity=granularity,
        ends=ends,
        io_layout=io_layout,
        shapes=shapes,
        plan=plan,
        random_data=random_data,
        labels=labels,
        config=config,
        seed=seed,
        threads=threads,
        dump_dir=dump_dir,
        time_passes=time_passes,
        latency=latency,
        progress=progress,
        out=out,
    )
    if len(jobs.options.targets) > 1:
        raise QCompileError(
            Code.BAD_OPTION,
            "the configuration names several targets, and this builds for one",
            hint="give target=, or use build_for",
        )
    return jobs.run()[0]


def build_for(
    model: str | Path,
    targets: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    **options: Any,
) -> dict[str, BuildResult]:
    """Turn a float model into an integer one for each of several targets, from one plan.

    The plan is made for what the targets have in common, so the artefacts carry the same scales.

    Args:
        model: an .onnx file.
        targets: names of targets, or description files.
        out: an existing folder; the files are called NAME.TARGET.onnx or .tflite. None writes
            nothing.
        options: as for ``build``.

    Returns:
        Name of the target -> its build.

    Raises:
        QCompileError: as ``build``; BAD_OPTION when the targets have no plan in common.
    """
    job = _job(model, targets=tuple(targets), out=out, several=True, **options)
    names = [target.name for target in job.options.targets]
    return dict(zip(names, job.run(), strict=True))


def _job(
    model: str | Path,
    *,
    targets: tuple[str | Path, ...],
    out: str | Path | None,
    several: bool = False,
    data: DataSpec | None = None,
    eval_data: DataSpec | None = None,
    scheme: str | None = None,
    effort: str | None = None,
    ranges: str | None = None,
    granularity: str | None = None,
    ends: str | None = None,
    io_layout: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    plan: str | Path | None = None,
    random_data: bool = False,
    labels: str | Path | None = None,
    config: str | Path | None = None,
    seed: int | None = None,
    threads: int | None = None,
    dump_dir: str | Path | None = None,
    time_passes: bool = False,
    latency: bool = True,
    progress: Progress | None = None,
) -> Build:
    source = Path(model)
    settings = load_config(None if config is None else Path(config), Path.cwd())
    settings = settings.replace("data", labels=None if labels is None else Path(labels).absolute())
    defaults = settings.build
    saved = None if plan is None else read_plan(Path(plan))
    described = _described(targets, defaults, saved)
    kind = ends or defaults.io or (saved.plan.ends if saved else None)
    wanted = check_choice(
        "--scheme", scheme or defaults.scheme or (saved.plan.scheme if saved else "w8a8"), SCHEMES
    )
    chosen = tuple(load_target(one).under(wanted) for one in described)
    each = tuple("float" if wanted in FLOAT_SCHEMES else ends_of(kind, one) for one in chosen)
    options = BuildOptions(
        targets=chosen,
        ends=each,
        scheme=Scheme(
            scheme=wanted,
            ranges=check_choice(
                "--ranges", ranges or defaults.ranges or "minmax", tuple(RANGE_METHODS)
            ),
            granularity=_granularity(granularity),
            ends=next((end for end in each if end != "float"), "float"),
            threads=_threads(threads if threads is not None else defaults.threads),
            dump_dir=None if dump_dir is None else Path(dump_dir),
        ),
        effort=check_choice("--effort", effort or defaults.effort or "fast", EFFORTS),
        shapes={**defaults.shapes, **(shapes or {})},
        plan=saved,
        random_data=random_data,
        seed=_seed(seed if seed is not None else defaults.seed),
        time_passes=time_passes,
        latency=latency,
        io_layout=None if io_layout is None else check_choice("--io-layout", io_layout, LAYOUTS),
    )
    inputs = input_paths(
        source, described, None if plan is None else Path(plan), settings, data, eval_data
    )
    if dump_dir is not None:
        check_dump_dir(Path(dump_dir), inputs)
    outputs = None if out is None else _outputs(Path(out), source, chosen, inputs, several=several)
    return Build(source, options, settings, data, eval_data, outputs, progress or Silent())


def _outputs(
    out: Path, source: Path, targets: Sequence[Target], inputs: list[Path], *, several: bool
) -> OutputSet:
    """The files of a build: beside OUT, or in the folder OUT for several targets."""
    if not several:
        return OutputSet(out, inputs=inputs)
    if not out.is_dir():
        raise QCompileError(
            Code.OUTPUT_UNWRITABLE,
            f"{out} is not a folder",
            hint="several targets need a folder that exists: an artefact for each goes there",
        )
    starts = [artefact_suffix(target) for target in targets]
    suffixes = [start + end for start in starts for end in ("", REPORT, PLAN, PLAN_ARRAYS)]
    return OutputSet(out / source.stem, suffixes=suffixes, inputs=inputs)


def check(
    artefact: str | Path,
    *,
    reference: str | Path,
    data: DataSpec | None = None,
    min_sqnr: float | None = None,
    max_drop: float | None = None,
    min_agreement: float | None = None,
    max_latency_ratio: float | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    labels: str | Path | None = None,
    config: str | Path | None = None,
    threads: int | None = None,
    latency: bool = True,
    progress: Progress | None = None,
) -> CheckReport:
    """Hold a finished artefact against its float model.

    Args:
        artefact: the compiled .onnx file.
        reference: the float model.
        data: samples to run both on [``eval``, else ``calibration`` of the configuration].
        min_sqnr: lowest SQNR in dB of any output.
        max_drop: most points of top-1 that may be lost; needs labels.
        min_agreement: lowest share of samples with the same class, 0 to 1.
        max_latency_ratio: highest median time over the float model's.
        shapes: input name -> shape, to fix dimensions that are not known.
        labels: label file of the samples.
        config: configuration file, for the preprocessing.
        threads: samples in work at a time [the processors here].
        latency: time both models.
        progress: is told of each stage.

    Returns:
        The findings; ``passed`` says whether every gate holds.

    Raises:
        QCompileError: for everything that cannot be checked.
    """
    settings = load_config(None if config is None else Path(config), Path.cwd())
    settings = settings.replace("data", labels=None if labels is None else Path(labels).absolute())
    limits = Limits(
        min_sqnr=min_sqnr,
        max_drop=max_drop,
        min_agreement=min_agreement,
        max_latency_ratio=max_latency_ratio,
    )
    job = Check(
        Path(artefact),
        Path(reference),
        settings,
        data,
        limits,
        {**settings.build.shapes, **(shapes or {})},
        _threads(threads if threads is not None else settings.build.threads),
        latency,
        progress or Silent(),
    )
    return job.run()


def inspect(path: str | Path, *, target: str | Path | None = None) -> InspectReport:
    """Say what is in a model file, float or compiled, and what of it is integer.

    Args:
        path: an .onnx or .tflite file.
        target: for a float model, also say what a build for this target would make integer.

    Raises:
        QCompileError: for a file that is no model.
    """
    if Path(path).suffix == ".tflite":
        from qcompile.compiler.inspect_tflite import inspect_tflite

        return inspect_tflite(Path(path))
    return inspect_file(Path(path), None if target is None else load_target(target))


def _described(
    given: tuple[str | Path, ...], defaults: BuildConfig, saved: SavedPlan | None
) -> tuple[str | Path, ...]:
    """Names or files of the targets: as given, else of the configuration, the plan, or here."""
    if given:
        return given
    named = defaults.target
    if named is not None:
        return named if isinstance(named, tuple) else (named,)
    return (_of_plan(saved) or host_target(),)


def _of_plan(saved: SavedPlan | None) -> str | None:
    """The target that a plan was made for, if it is one that comes with qcompile."""
    name = saved.plan.target if saved is not None else None
    return name if name in target_names() else None


def _granularity(asked: str | None) -> str | None:
    return None if asked is None else check_choice("--granularity", asked, GRANULARITIES)


def _seed(asked: int | None) -> int:
    if asked is not None and asked < 0:
        raise QCompileError(Code.BAD_OPTION, f"--seed must be 0 or more, not {asked}")
    return asked or 0


def _threads(asked: int | None) -> int:
    if asked is not None and asked < 1:
        raise QCompileError(Code.BAD_OPTION, f"--threads must be at least 1, not {asked}")
    return asked or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else asked or 1
