"""``qcompile diff``: in what two builds differ, and where they part."""

from pathlib import Path
from typing import Any

import click

from qcompile.compiler.cli.options import (
    existing_path,
    given,
    import_flags,
    json_option,
    print_results,
    quiet_option,
    shape_option,
    state_option,
    threads_option,
    verbose_option,
)
from qcompile.compiler.cli.streams import progress_on_stderr
from qcompile.core.errors import Exit


@click.command("diff")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("-d", "--data", metavar="DATA", help="Samples to run both on, layer by layer.")
@existing_path("--reference", metavar="MODEL", help="The float model, to hold both against.")
@click.option(
    "--fall", type=click.FloatRange(0, min_open=True), metavar="DB",
    help="The fall of SQNR that counts as parting [10].",
)  # fmt: skip
@click.option("--exit-code", is_flag=True, help="Exit with 1 when anything differs.")
@shape_option
@state_option
@import_flags
@existing_path("--label-file", "labels", help="Labels of the samples.")
@existing_path("--config", help="Configuration [qcompile.toml, or [tool.qcompile]].")
@threads_option
@json_option
@quiet_option
@verbose_option
def command(
    first: Path,
    second: Path,
    exit_code: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Show in what FIRST and SECOND differ: operators, nodes, scales, size.

    Each is a build, a model of another tool (ONNX with QuantizeLinear, TFLite), a float model, or a
    .plan.json. With DATA both are run: outputs, and every value they have in common.
    """
    from qcompile.compiler.api import diff

    with progress_on_stderr(quiet=quiet, verbose=verbose) as progress:
        report = diff(first, second, progress=progress, **given(**options))
    print_results(report, as_json=as_json, quiet=quiet)
    return Exit.GATE if exit_code and not report.same else Exit.OK
