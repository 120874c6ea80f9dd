"""The public functions, one a verb. The command line is a thin layer over them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

from qcompile.compiler.arguments import BuildArguments
from qcompile.compiler.budgets import read_latency
from qcompile.compiler.data.options import DataSpec
from qcompile.compiler.device_options import device_options
from qcompile.compiler.diff.job import LARGEST_FALL, Diff
from qcompile.compiler.export import ExportResult, export_build
from qcompile.compiler.finish import BuildResult
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.job import (
    find_metric,
    make_job,
    read_settings,
    thread_count,
    with_tokenizer,
)
from qcompile.compiler.off_limits import off_limits
from qcompile.compiler.progress import Progress, Silent
from qcompile.compiler.report.diff_model import DiffReport
from qcompile.compiler.report.model import CheckReport, InspectReport
from qcompile.compiler.verify.gates import Limits
from qcompile.compiler.verify.user_metric import MetricFunction
from qcompile.core.errors import Code, QCompileError
from qcompile.targets.catalog import load_target

__all__ = ["BuildResult", "build", "build_for", "check", "diff", "export", "inspect"]


def build(
    model: str | Path,
    *,
    target: str | Path | None = None,
    out: str | Path | None = None,
    **options: Unpack[BuildArguments],
) -> BuildResult:
    """Turn a float model into an integer one.

    What is left out comes from ``qcompile.toml`` (see ``config``), else from the default in
    brackets.

    Args:
        model: an .onnx file.
        target: name of a target, or a description file of your own [the best one for this machine].
        out: the artefact to write; beside it ``.report.json``, ``.plan.json`` and ``.plan.npz``.
            None writes nothing.
        options: see ``qcompile.compiler.arguments.BuildArguments``, which says what each is:

            - samples: ``data``, ``eval_data``, ``labels``, ``random_data``, ``shapes``, ``state``,
              ``seed``;
            - what is made: ``scheme``, ``ends``, ``io_layout``, ``granularity``, ``ranges``,
              ``plan``, ``emit``;
            - how the model is read: ``trust_model``, ``signature``, ``requantize``;
            - how well and at what cost: ``effort``, ``time_budget``, ``max_drop``,
              ``max_latency``, ``max_size``, ``never_slower``;
            - how it is done: ``config``, ``threads``, ``latency``, ``progress``, ``dump_dir``,
              ``time_passes``.

    Returns:
        The artefact, its report and plan; shows its report in a notebook.

    Raises:
        QCompileError: for everything that cannot be built, with a code and what to do about it.
    """
    job = make_job(model, () if target is None else (target,), out, **options)
    if len(job.options.targets) > 1:
        raise QCompileError(
            Code.BAD_OPTION,
            "the configuration names several targets, and this builds for one",
            hint="give target=, or use build_for",
        )
    return job.run()[0]


def build_for(
    model: str | Path,
    targets: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    **options: Unpack[BuildArguments],
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
    job = make_job(model, tuple(targets), out, several=True, **options)
    names = [target.name for target in job.options.targets]
    return dict(zip(names, job.run(), strict=True))


def check(
    artefact: str | Path,
    *,
    reference: str | Path,
    data: DataSpec | None = None,
    min_sqnr: float | None = None,
    max_drop: float | None = None,
    min_agreement: float | None = None,
    max_perplexity: float | None = None,
    max_latency_ratio: float | None = None,
    max_latency: str | None = None,
    min_speedup: float | None = None,
    max_instructions_ratio: float | None = None,
    max_off_target: int | None = None,
    max_sram: float | str | None = None,
    max_cycles: float | str | None = None,
    devices: str | Sequence[str] | None = None,
    device_timeout: float | str | None = None,
    runner: str | Path | None = None,
    device_samples: int | None = None,
    bisect: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    state: Mapping[str, str] | None = None,
    trust_model: bool = False,
    signature: str | None = None,
    labels: str | Path | None = None,
    tokenizer: str | Path | None = None,
    metric: str | MetricFunction | None = None,
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
        max_drop: most points (hundredths) of top-1 or of your metric that may be lost; of a
            language model, most percent by which perplexity may rise.
        min_agreement: lowest share of samples with the same class, or of positions in texts with
            the same next token, 0 to 1.
        max_perplexity: highest perplexity of a language model.
        max_latency_ratio: highest median time over the float model's.
        max_latency: longest median time: ``15ms``, or ``0.8x`` of the float model's.
        min_speedup: how many times faster than the float model it must be.
        max_off_target: most nodes that may leave the target that the artefact is for: its NPU,
            XNNPACK, or ONNX Runtime's integer kernels.
        max_sram: most working memory, ``512KiB``, by the estimate of the target's tool.
        max_cycles: most cycles of an inference, by the same.
        max_instructions_ratio: most instructions over the float model's, on an emulated device.
        devices: where the artefact runs, as ``local``, ``qemu:cortex-a76``, ``ssh:user@host`` or
            ``adb:SERIAL`` [in this process]; several are also compared with each other.
        device_timeout: seconds without an answer after which a device is lost [600].
        runner: a native program that runs models on a device without Python.
        device_samples: most samples that a device runs [all; 8 where it is emulated].
        bisect: find the first operator that parts by running ever shorter artefacts.
        shapes: input name -> shape, to fix dimensions that are not known.
        state: output -> input that takes it at the next sample of a sequence.
        trust_model: read a reference that can run code of its own when it is loaded.
        signature: which signature of a reference that has several.
        labels: label file of the samples.
        tokenizer: a tokenizer.json or its folder, for samples that are text.
        metric: a metric of your own, as for ``build``; ``max_drop`` then holds it, not top-1.
        config: configuration file, for the preprocessing.
        threads: samples in work at a time [the processors here].
        latency: time both models.
        progress: is told of each stage.

    Returns:
        The findings; ``passed`` says whether every gate holds.

    Raises:
        QCompileError: for everything that cannot be checked.
    """
    from qcompile.compiler.check import Check

    settings = with_tokenizer(read_settings(config, labels).with_state(state), tokenizer)
    fixed = {**settings.build.shapes, **(shapes or {})}
    limits = Limits(
        min_sqnr=min_sqnr,
        max_drop=max_drop,
        min_agreement=min_agreement,
        max_perplexity=max_perplexity,
        max_latency_ratio=max_latency_ratio,
        max_latency=None if max_latency is None else read_latency("--max-latency", max_latency),
        min_speedup=min_speedup,
        max_instructions_ratio=max_instructions_ratio,
    )
    job = Check(
        Path(artefact),
        Path(reference),
        settings,
        data,
        limits,
        fixed,
        thread_count(threads if threads is not None else settings.build.threads),
        latency,
        progress or Silent(),
        find_metric(metric, settings),
        device_options(devices, device_timeout, runner, device_samples),
        off_limits(max_off_target, max_sram, max_cycles),
        bisect,
        ImportOptions(trust_model, signature, fixed),
    )
    return job.run()


def inspect(
    path: str | Path,
    *,
    target: str | Path | None = None,
    trust_model: bool = False,
    signature: str | None = None,
) -> InspectReport:
    """Say what is in a model file, float or compiled, and what of it is integer.

    Args:
        path: an .onnx or .tflite file, or what else can be built.
        target: for a float model, also say what a build for this target would make integer.
        trust_model: read a file that can run code of its own when it is loaded.
        signature: which signature of a model that has several.

    Raises:
        QCompileError: for a file that is no model.
    """
    if Path(path).suffix == ".tflite":
        from qcompile.compiler.inspect_tflite import inspect_tflite

        return inspect_tflite(Path(path))
    from qcompile.compiler.inspection import inspect_file

    described = None if target is None else load_target(target)
    return inspect_file(str(path), described, ImportOptions(trust_model, signature))


def diff(
    first: str | Path,
    second: str | Path,
    *,
    data: DataSpec | None = None,
    reference: str | Path | None = None,
    fall: float | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    state: Mapping[str, str] | None = None,
    trust_model: bool = False,
    signature: str | None = None,
    labels: str | Path | None = None,
    config: str | Path | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> DiffReport:
    """Say in what two builds differ, and with data where they part.

    Args:
        first: a build (.onnx or .tflite, its plan beside it), a QDQ or TFLite model of another
            tool, a float model, or a .plan.json.
        second: the other one.
        data: samples to run both on; None runs nothing.
        reference: the float model, to hold both against.
        fall: dB that SQNR may fall from one value to the next before they are said to part [10].
        shapes: input name -> shape, to fix dimensions that are not known.
        state: output -> input that takes it at the next sample of a sequence.
        trust_model: read models that can run code of their own when they are loaded.
        signature: which signature of models that have several.
        labels: label file of the samples.
        config: configuration file, for the preprocessing.
        threads: samples in work at a time [the processors here]; no result depends on it.
        progress: is told of each stage.

    Returns:
        The differences; ``same`` says that there are none.

    Raises:
        QCompileError: for everything that cannot be compared.
    """
    settings = read_settings(config, labels).with_state(state)
    fixed = {**settings.build.shapes, **(shapes or {})}
    return Diff(
        str(first),
        str(second),
        None if reference is None else str(reference),
        settings,
        data,
        ImportOptions(trust_model, signature, fixed),
        thread_count(threads if threads is not None else settings.build.threads),
        LARGEST_FALL if fall is None else fall,
        progress or Silent(),
    ).run()


def export(
    build: str | Path,
    out: str | Path,
    *,
    reference: str | Path,
    form: str,
    prepared: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    trust_model: bool = False,
    signature: str | None = None,
) -> ExportResult:
    """Write the scales and zero points of a build in a form that another tool reads.

    Args:
        build: the artefact, beside which its plan lies, or the plan itself.
        out: the file to write.
        reference: the float model it was made from.
        form: ``ort``, ``aimet`` (1.0.0), ``aimet-0.6.1`` or ``aimet-2.0.0``.
        prepared: write also the prepared float model, OUT.onnx, and the encodings for that one.
        shapes: as the build was given them.
        trust_model: read a reference that can run code of its own when it is loaded.
        signature: which signature of a reference that has several.

    Raises:
        QCompileError: BAD_OPTION, BAD_PLAN, PLAN_MISMATCH; what reading and writing raise.
    """
    importing = ImportOptions(trust_model, signature, shapes or {})
    return export_build(Path(build), reference, Path(out), form, importing, prepared=prepared)
