"""``qcompile check``: does an artefact hold what was asked of it."""

from pathlib import Path
from typing import Any

import click

from qcompile.compiler.cli.options import (
    existing_path,
    given,
    json_option,
    print_results,
    quiet_option,
    shape_option,
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
    "--max-drop", type=float, metavar="POINTS", help="Most points lost, of top-1 or METRIC."
)
@click.option(
    "--min-agreement", type=click.FloatRange(0, 1), metavar="SHARE",
    help="Lowest share of samples with the float model's class, 0 to 1.",
)  # fmt: skip
@click.option(
    "--max-latency-ratio", type=click.FloatRange(0, min_open=True), metavar="RATIO",
    help="Highest median time over the float model's.",
)  # fmt: skip
@shape_option
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

    Exits with 1 when a gate fails, after the report.
    """
    if no_latency and options["max_latency_ratio"] is not None:
        raise click.UsageError("--max-latency-ratio needs latency; leave out --no-latency")
    chosen = given(**options)
    if no_latency:
        chosen["latency"] = False
    from qcompile.compiler.api import check

    with progress_on_stderr(quiet=quiet, verbose=verbose) as progress:
        report = check(artefact, progress=progress, **chosen)
    print_results(report, as_json=as_json, quiet=quiet)
    return Exit.OK if report.passed else Exit.GATE
