"""From the arguments of a build to a checked job: configuration, saved plan and defaults merged."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, Unpack

from qcompile.compiler.arguments import BuildArguments, check_names
from qcompile.compiler.budgets import read_latency, read_points, read_seconds, read_size
from qcompile.compiler.build import Build
from qcompile.compiler.config import BuildConfig, Config, load_config
from qcompile.compiler.device_options import device_options
from qcompile.compiler.emit import GENAI, forms_of, genai_suffixes, suffixes_of
from qcompile.compiler.encodings.importing import GivenEncodings, given_encodings
from qcompile.compiler.files import artefact_suffix, portable_suffix
from qcompile.compiler.genai.known import known_of
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.inputs import check_dump_dir, input_paths
from qcompile.compiler.off_limits import off_limits
from qcompile.compiler.options import (
    AUTO,
    EFFORTS,
    LAYOUTS,
    SCHEMES,
    BuildOptions,
    Scheme,
    check_choice,
    ends_of,
)
from qcompile.compiler.output import PLAN, PLAN_ARRAYS, REPORT, OutputSet
from qcompile.compiler.progress import Silent
from qcompile.compiler.saved_plan import SavedPlan, read_plan
from qcompile.compiler.search.partial import SUFFIX as PARTIAL
from qcompile.compiler.verify.user_metric import MetricFunction, UserMetric, load_metric
from qcompile.compiler.weight_options import (
    BY_TOKEN,
    check_beside_plan,
    check_form,
    check_granularity,
    check_weights,
    read_bits,
    read_symmetry,
)
from qcompile.core.errors import Code, QCompileError
from qcompile.core.plan import is_by_token
from qcompile.core.schemes import FLOAT_SCHEMES, split_scheme
from qcompile.core.target import Target
from qcompile.passes.plan.pixel_values import RULE as RAW
from qcompile.passes.plan.ranges.table import RANGE_METHODS
from qcompile.targets.catalog import load_target, target_names
from qcompile.targets.host import host_target

NO_DATA = "none"
"""What ``-d`` takes instead of a set when there is none."""

DEFAULT_EFFORT = "balanced"

T = TypeVar("T")


def make_job(
    model: str | Path,
    targets: tuple[str | Path, ...],
    out: str | Path | None,
    *,
    several: bool = False,
    **given: Unpack[BuildArguments],
) -> Build:
    """The build that is asked for, checked as far as it can be without reading the model.

    Args:
        model: path of the float model.
        targets: as given; when there are none the configuration, the plan or this machine decides.
        out: the artefact, or with ``several`` the folder for the artefacts; None writes nothing.
        several: whether each target's name goes into the names of its files.
        given: see ``BuildArguments``.

    Raises:
        QCompileError: for everything that is not known or does not go together.
    """
    check_names(given)
    source = Path(model)
    settings = read_settings(given.get("config"), given.get("labels"))
    settings = settings.with_state(given.get("state"))
    settings = with_tokenizer(settings, given.get("tokenizer"))
    plan, dump_dir = _path(given.get("plan")), _path(given.get("dump_dir"))
    saved = None if plan is None else read_plan(plan)
    if saved is not None and given.get("separate_plans"):
        raise QCompileError(
            Code.BAD_OPTION, "--plan is one plan, and --separate-plans asks for several"
        )
    if saved is not None:
        check_beside_plan(given, saved.plan)
    described = _described(targets, settings.build, saved)
    options = _options(given, settings, described, saved)
    if GENAI in options.emit:
        options = replace(options, known=known_of(source, settings.tokenizer, settings.genai))
    data, eval_data = given.get("data"), given.get("eval_data")
    if options.without_data:
        data, settings = None, without_calibration(settings)
    inputs = input_paths(source, described, plan, settings, data, eval_data)
    inputs += [path for path in (options.class_names,) if path is not None and path.exists()]
    encodings = options.scheme.encodings
    inputs += [encodings.path] if encodings is not None else []
    if dump_dir is not None:
        check_dump_dir(dump_dir, inputs)
    outputs = None
    inputs += options.known.paths if options.known is not None else ()
    if out is not None:
        outputs = _outputs(Path(out), source, options, inputs, several=several)
        partial = Path(f"{Path(out) / source.stem if several else out}{PARTIAL}")
        options = replace(options, scheme=replace(options.scheme, partial=partial))
    progress = given.get("progress") or Silent()
    return Build(str(model), options, settings, data, eval_data, outputs, progress, several)


def read_settings(config: str | Path | None, labels: str | Path | None) -> Config:
    """The configuration, with the label file that was given beside it."""
    settings = load_config(_path(config), Path.cwd())
    return settings.replace("data", labels=None if labels is None else Path(labels).absolute())


def with_tokenizer(settings: Config, tokenizer: str | Path | None) -> Config:
    """The configuration with the tokenizer that was given beside it."""
    path = None if tokenizer is None else Path(tokenizer).absolute()
    return settings.replace("data", tokenizer=path)


def _is_none(data: object) -> bool:
    """Whether ``-d none`` was said: that there are no data."""
    return isinstance(data, str) and data == NO_DATA


def without_calibration(settings: Config) -> Config:
    """The configuration without a calibration set."""
    return replace(settings, data=replace(settings.data, calibration=None))


def find_metric(given: str | MetricFunction | None, settings: Config) -> UserMetric | None:
    """The user's metric, as given or as the configuration names it, relative to its folder."""
    if given is not None:
        return load_metric(given, Path())
    return load_metric(settings.data.metric, settings.folder)


def thread_count(asked: int | None) -> int:
    """Threads to use: as asked, else one a processor.

    Raises:
        QCompileError: BAD_OPTION for less than one.
    """
    if asked is not None and asked < 1:
        raise QCompileError(Code.BAD_OPTION, f"--threads must be at least 1, not {asked}")
    return asked or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else asked or 1


def _options(
    given: BuildArguments,
    settings: Config,
    described: Sequence[str | Path],
    saved: SavedPlan | None,
) -> BuildOptions:
    defaults = settings.build
    kind = given.get("ends") or defaults.io or (saved.plan.ends if saved else None)
    named = given.get("scheme") or defaults.scheme or AUTO
    check_choice("--scheme", split_scheme(named)[0], (AUTO, *SCHEMES))
    simulate = given.get("simulate", False)
    loaded = tuple(map(load_target, described))
    wanted = named if named != AUTO else _automatic(loaded, saved)
    chosen = tuple(one.under(wanted, simulate=simulate) for one in loaded)
    if given.get("granularity") == BY_TOKEN or (saved is not None and is_by_token(saved.plan)):
        chosen = tuple(one.by_token() for one in chosen)
    tokens = all(one.dynamic_scales == "token" for one in chosen)
    scheme = _scheme(given, defaults, saved, wanted, auto=named == AUTO, tokens=tokens)
    for one in chosen:
        check_form(scheme.weights, one)
    floats = scheme.scheme in FLOAT_SCHEMES or scheme.weight_bits > 0
    each = tuple("float" if floats else ends_of(kind, one) for one in chosen)
    end = next((end for end in each if end != "float"), "float")
    asked_latency = given.get("max_latency") or defaults.max_latency
    asked_size = given.get("max_size") or defaults.max_size
    shapes = {**defaults.shapes, **(given.get("shapes") or {})}
    return BuildOptions(
        targets=chosen,
        ends=each,
        raw_bytes=_takes_bytes(saved) if saved else bool(given.get("ends") or defaults.io),
        scheme=replace(scheme, ends=end),
        shapes=shapes,
        importing=ImportOptions(given.get("trust_model", False), given.get("signature"), shapes),
        requantize=given.get("requantize", False),
        separate_plans=given.get("separate_plans", False),
        plan=saved,
        random_data=given.get("random_data", False),
        without_data=_is_none(_first(given.get("data"), settings.data.calibration)),
        scheme_named=named != AUTO,
        seed=_seed(_first(given.get("seed"), defaults.seed)),
        time_passes=given.get("time_passes", False),
        latency=given.get("latency", True),
        metric=find_metric(given.get("metric"), settings),
        io_layout=_choice("--io-layout", given.get("io_layout"), LAYOUTS),
        class_names=_path(given.get("class_names")) or settings.class_names,
        sensitivity=given.get("sensitivity", False),
        max_drop=read_points("--max-drop", _first(given.get("max_drop"), defaults.max_drop)),
        max_latency=None if asked_latency is None else read_latency("--max-latency", asked_latency),
        max_size=None if asked_size is None else read_size("--max-size", asked_size),
        off_limits=off_limits(
            _first(given.get("max_off_target"), defaults.max_off_target),
            given.get("max_sram") or defaults.max_sram,
            given.get("max_cycles") or defaults.max_cycles,
        ),
        never_slower=given.get("never_slower") or defaults.never_slower,
        emit=forms_of(given.get("emit"), chosen),
        devices=device_options(
            given.get("devices"),
            given.get("device_timeout"),
            given.get("runner"),
            given.get("device_samples"),
        ),
    )


def _takes_bytes(saved: SavedPlan) -> bool:
    """Whether a plan was made for raw bytes, which goes with its graph."""
    return any(entry.rule == RAW for entry in saved.plan.values.values())


def _automatic(targets: Sequence[Target], saved: SavedPlan | None) -> str:
    """Where ``auto`` starts from: the saved plan's scheme, else the first that all targets take."""
    if saved is not None:
        return saved.plan.scheme
    common = [s for s in targets[0].schemes if all(s in one.schemes for one in targets)]
    return "w8a8" if "w8a8" in common or not common else common[0]


def _scheme(
    given: BuildArguments,
    defaults: BuildConfig,
    saved: SavedPlan | None,
    wanted: str,
    *,
    auto: bool,
    tokens: bool,
) -> Scheme:
    ranges = given.get("ranges") or defaults.ranges
    effort = given.get("effort") or defaults.effort or DEFAULT_EFFORT
    budget = given.get("time_budget") or defaults.time_budget
    name, cache = split_scheme(wanted)
    form = given.get("weights") or (saved.plan.weights if saved else "int")
    return Scheme(
        scheme=name,
        kv=cache,
        ranges=_choice("--ranges", ranges, tuple(RANGE_METHODS)),
        granularity=check_granularity(given.get("granularity"), name, tokens=tokens),
        symmetric=read_symmetry(given.get("symmetry"), name, form, tokens=tokens),
        tokens=tokens and name.endswith("-dynamic"),
        weights=check_weights(form, name, given.get("granularity")),
        bits_per_weight=read_bits(given.get("bits_per_weight"), name, form),
        threads=thread_count(_first(given.get("threads"), defaults.threads)),
        dump_dir=_path(given.get("dump_dir")),
        effort=check_choice("--effort", effort, EFFORTS),
        auto=auto,
        encodings=_encodings(given, wanted),
        time_budget=None if budget is None else read_seconds("--time-budget", budget),
    )


def _encodings(given: BuildArguments, scheme: str) -> GivenEncodings | None:
    path = _path(given.get("encodings"))
    if path is None:
        return None
    if given.get("plan") is not None:
        raise QCompileError(Code.BAD_OPTION, "--plan says every scale; --encodings has no place")
    if split_scheme(scheme)[0] in FLOAT_SCHEMES:
        raise QCompileError(Code.BAD_OPTION, f"--encodings: scheme {scheme} has no scales")
    return given_encodings(path)


def _outputs(
    out: Path, source: Path, options: BuildOptions, inputs: list[Path], *, several: bool
) -> OutputSet:
    """The files of a build: beside OUT, or in the folder OUT for several targets."""
    targets, beside = options.targets, (REPORT, PLAN, PLAN_ARRAYS, *suffixes_of(options.emit))
    if not several:
        one = portable_suffix(targets[0])
        beside = (*beside, *(genai_suffixes(options.known, out) if options.known else ()))
        return OutputSet(out, suffixes=[*beside, *([one] if one else [])], inputs=inputs)
    if not out.is_dir():
        raise QCompileError(
            Code.OUTPUT_UNWRITABLE,
            f"{out} is not a folder",
            hint="several targets need a folder that exists: an artefact for each goes there",
        )
    suffixes = [
        artefact_suffix(target) + end
        for target in targets
        for end in dict.fromkeys(("", *beside, portable_suffix(target)))
    ]
    return OutputSet(out / source.stem, suffixes=suffixes, inputs=inputs)


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


def _choice(option: str, asked: str | None, known: Sequence[str]) -> str | None:
    return None if asked is None else check_choice(option, asked, known)


def _seed(asked: int | None) -> int:
    if asked is not None and asked < 0:
        raise QCompileError(Code.BAD_OPTION, f"--seed must be 0 or more, not {asked}")
    return asked or 0


def _first(given: T | None, default: T | None) -> T | None:
    return given if given is not None else default


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
