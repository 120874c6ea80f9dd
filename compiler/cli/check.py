"""``qcompile check``: does an artefact hold what was asked of it."""

from pathlib import Path
from typing import Any

import click

from qcompile.compiler.cli.options import (
    device_flags,
    existing_path,
    given,
    import_flags,
    json_option,
    off_target_flags,
    print_results,
    quiet_option,
    shape_option,
    state_option,
    threads_option,
    verbose_option,
)
from qcompile.compiler.cli.streams import progress_on_stderr
from qcompile.core.errors import Exit


@click.command("check")
@click.argument("artefact", type=click.Path(path_type=Path))
@click.option(
    "--reference", type=click.Path(path_type=Path), required=True, metavar="MODEL",
    help="The float model.",
)  # fmt: skip
@click.option("-d", "--data", metavar="DATA", required=True, help="Samples to judge accuracy on.")
@click.option("--min-sqnr", type=float, metavar="DB", help="Lowest SQNR of any output.")
@click.option(
    "--max-drop", type=float, metavar="POINTS",
    help="Most points lost, of top-1 or METRIC; percent of perplexity.",
)  # fmt: skip
@click.option(
    "--min-agreement", type=click.FloatRange(0, 1), metavar="SHARE",
    help="Lowest share of the float model's classes, or next tokens, 0 to 1.",
)  # fmt: skip
@click.option(
    "--max-perplexity", type=click.FloatRange(0, min_open=True), metavar="PERPLEXITY",
    help="Highest perplexity of a language model.",
)  # fmt: skip
@click.option(
    "--max-latency-ratio", type=click.FloatRange(0, min_open=True), metavar="RATIO",
    help="Highest median time over the float model's.",
)  # fmt: skip
@click.option("--max-latency", metavar="TIME", help="Longest time: 15ms, or 0.8x of float's.")
@click.option(
    "--min-speedup", type=click.FloatRange(0, min_open=True), metavar="RATIO",
    help="How many times faster than the float model.",
)  # fmt: skip
@click.option(
    "--max-instructions-ratio", type=click.FloatRange(0, min_open=True), metavar="RATIO",
    help="Most instructions over the float model's, on emulated devices.",
)  # fmt: skip
@off_target_flags
@device_flags
@click.option(
    "--bisect", is_flag=True,
    help="Find the first operator that parts by running ever shorter artefacts.",
)  # fmt: skip
@existing_path("--tokenizer", help="For data that are text: tokenizer.json or its folder.")
@shape_option
@state_option
@import_flags
@existing_path("--label-file", "labels", help="Labels of the samples.")
@click.option("--metric", metavar="METRIC", help="A metric of your own, module:function.")
@existing_path("--config", help="Configuration [qcompile.toml, or [tool.qcompile]].")
@threads_option
@click.option("--no-latency", is_flag=True, help="Do not time the models.")
@json_option
@quiet_option
@verbose_option
def command(
    artefact: Path, no_latency: bool, as_json: bool, quiet: bool, verbose: bool, **options: Any
) -> int:
    """Hold ARTEFACT against its float model: accuracy, latency, gates.

    With --device it runs there instead of in this process. Several devices run the same inputs, and
    the report says where their results part from those of our integer reference.

    Exits with 1 when a gate fails, after the report. A limit of time fails when the whole 95 %
    interval of what was measured lies beyond it.
    """
    if no_latency:
        _refuse_timed(options)
    chosen = given(**options)
    if no_latency:
        chosen["latency"] = False
    from qcompile.compiler.api import check

    with progress_on_stderr(quiet=quiet, verbose=verbose) as progress:
        report = check(artefact, progress=progress, **chosen)
    print_results(report, as_json=as_json, quiet=quiet)
    return Exit.OK if report.passed else Exit.GATE


_TIMED = ("max_latency_ratio", "max_latency", "min_speedup", "max_instructions_ratio")


def _refuse_timed(options: dict[str, Any]) -> None:
    for name in _TIMED:
        if options[name] is not None:
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} needs latency; leave out --no-latency")
