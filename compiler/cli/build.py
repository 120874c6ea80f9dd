"""``qcompile build``: the main job."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from qcompile.compiler.cli.options import (
    device_flags,
    existing_path,
    given,
    import_flags,
    json_option,
    off_target_flags,
    output_path,
    print_results,
    quiet_option,
    shape_option,
    state_option,
    threads_option,
    verbose_option,
)
from qcompile.compiler.cli.streams import progress_on_stderr
from qcompile.core.errors import Exit
from qcompile.core.schemes import CACHES, SchemeName

if TYPE_CHECKING:
    from qcompile.compiler.report.model import BuildReport


@click.command("build")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-t", "--target", "targets", multiple=True, metavar="TARGET",
    help="What it is for [this machine]; several share one plan, and OUT is then a folder.",
)  # fmt: skip
@click.option("-d", "--data", metavar="DATA", help="Samples that give the ranges, or none.")
@click.option("--eval", "eval_data", metavar="DATA", help="Samples that accuracy is judged on.")
@click.option(
    "-o", "--out", required=True, callback=output_path, metavar="OUT", help="The artefact to write."
)
@click.option(
    "--scheme", metavar="SCHEME",
    help=f"{', '.join(get_args(SchemeName))}; behind one, a decoder's caches in so many bits: "
    f"{', '.join(f'+{cache}' for cache in CACHES)} [auto].",
)  # fmt: skip
@click.option(
    "--simulate", is_flag=True,
    help="Build a SCHEME that the target has no kernels for, to be looked at, not to ship.",
)  # fmt: skip
@click.option("--effort", metavar="EFFORT", help="How hard to try: fast, balanced, max [balanced].")
@click.option("--time-budget", metavar="TIME", help="What all searches may take: 60, 90s, 5m.")
@click.option("--max-drop", type=float, metavar="POINTS", help="Most points of the metric lost.")
@click.option("--max-latency", metavar="TIME", help="Longest time: 15ms, or 0.8x of float's.")
@click.option("--max-size", metavar="SIZE", help="Largest artefact: 2MB, or 30% of float's.")
@click.option("--never-slower", is_flag=True, help="Leave float what takes longer as integers.")
@off_target_flags
@click.option("--sensitivity", is_flag=True, help="List what each layer costs, integer and float.")
@click.option(
    "--ranges", metavar="RULE",
    help="minmax, percentile, entropy or mse [the best; with fast minmax].",
)  # fmt: skip
@click.option(
    "--granularity", metavar="KIND",
    help="Weight scales: tensor, channel, with float activations group:N [by layer]; or token, of "
    "activations that w8a8-dynamic quantizes.",
)  # fmt: skip
@click.option(
    "--weights", metavar="FORM",
    help="How weights are stored: int; codebook or pow2, which only make the file smaller [int].",
)  # fmt: skip
@click.option(
    "--symmetry", metavar="KIND", help="Zero points of groups: symmetric, asymmetric [the best]."
)
@click.option(
    "--bits-per-weight", type=float, metavar="BITS",
    help="What weights may take on average, scales included: widths by sensitivity.",
)  # fmt: skip
@click.option(
    "--emit", multiple=True, metavar="FORM",
    help="Also write: c, a constant array (TFLite); context, compiled (QNN); genai, a folder that "
    "onnxruntime-genai runs. Repeatable.",
)  # fmt: skip
@click.option("--io", "ends", metavar="TYPE", help="Ends: float, int8, uint8 or int16.")
@click.option("--io-layout", metavar="ORDER", help="TFLite's ends: nhwc or nchw [nhwc].")
@click.option(
    "--requantize", is_flag=True, help="Drop the scales of a model that is quantized already."
)
@click.option("--separate-plans", is_flag=True, help="For several targets: a plan for each.")
@existing_path("--tokenizer", help="Of a language model: tokenizer.json or its folder.")
@shape_option
@state_option
@import_flags
@existing_path("--plan", help="Build from a saved plan, without data.")
@existing_path("--encodings", help="Scales to take: AIMET encodings or ORT overrides (JSON).")
@click.option(
    "--random-data", is_flag=True, help="Build without data; the result is unfit to ship."
)
@existing_path("--label-file", "labels", help="Labels of the samples.")
@existing_path("--class-names", help="A class a line: goes into the artefact, for the app.")
@click.option("--metric", metavar="METRIC", help="A metric of your own, module:function.")
@existing_path("--config", help="Configuration [qcompile.toml, or [tool.qcompile]].")
@click.option("--seed", type=int, metavar="N", help="Of the held-out split and random data [0].")
@threads_option
@existing_path("--dump-dir", metavar="FOLDER", help="Keep the graph after each pass here.")
@click.option("--time-passes", is_flag=True, help="Report the time of each pass.")
@click.option("--no-latency", is_flag=True, help="Do not time the artefact.")
@device_flags
@json_option
@quiet_option
@verbose_option
def command(
    model: Path,
    targets: tuple[str, ...],
    no_latency: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Turn a float MODEL into an integer one for a target.

    Writes OUT, and beside it OUT.report.json, OUT.plan.json and OUT.plan.npz. All of them appear
    when everything is done, or none.

    DATA is a folder of .npy, .npz or pictures, one .npz, or module:function. Preprocessing stands
    in qcompile.toml. Without --eval a fifth of the data is held out to judge accuracy.

    --max-drop, --max-latency and --max-size leave as few layers float as will keep them. Where no
    plan does, nothing is written, and after the report of the best one the exit code is 1.

    --never-slower times layers as floats and as integers, on this machine or a --device, and keeps
    the fastest division; the plan says what it found, and --plan builds the same without a clock.
    """
    chosen = given(**options)
    if no_latency:
        chosen["latency"] = False
    if len(targets) > 1:
        reports = _build_for(model, targets, chosen, quiet=quiet, verbose=verbose)
    else:
        from qcompile.compiler.api import build

        chosen |= given(target=next(iter(targets), None))
        with progress_on_stderr(quiet=quiet, verbose=verbose) as progress:
            reports = [build(model, progress=progress, **chosen).report]
    for report in reports:
        print_results(report, as_json=as_json, quiet=quiet)
    return Exit.OK if all(report.passed for report in reports) else Exit.GATE


def _build_for(
    model: Path, targets: tuple[str, ...], chosen: dict[str, Any], *, quiet: bool, verbose: bool
) -> list["BuildReport"]:
    from qcompile.compiler.api import build_for

    with progress_on_stderr(quiet=quiet, verbose=verbose) as progress:
        built = build_for(model, targets, progress=progress, **chosen)
    return [result.report for result in built.values()]
