"""``qcompile export``: the scales of a build for other tools."""

from pathlib import Path

import click

from qcompile.compiler.cli.options import import_flags, output_path, quiet_option, shape_option
from qcompile.compiler.cli.streams import results


@click.command("export")
@click.argument("build", type=click.Path(path_type=Path))
@click.option(
    "--reference", type=click.Path(path_type=Path), required=True, metavar="MODEL",
    help="The float model it was made from.",
)  # fmt: skip
@click.option(
    "-f", "--format", "form", required=True, metavar="FORMAT",
    help="ort, aimet (1.0.0), aimet-0.6.1 or aimet-2.0.0.",
)  # fmt: skip
@click.option(
    "-o", "--out", required=True, callback=output_path, metavar="OUT", help="The file to write."
)
@click.option(
    "--prepared", is_flag=True, help="Write the prepared float model, OUT.onnx, and its scales."
)
@shape_option
@import_flags
@quiet_option
def command(
    build: Path,
    reference: Path,
    form: str,
    out: Path,
    prepared: bool,
    shapes: dict[str, tuple[int, ...]],
    trust_model: bool,
    signature: str | None,
    quiet: bool,
) -> None:
    """Write the scales and zero points of BUILD in a form that AIMET or ONNX Runtime's tool reads.

    BUILD is an artefact with its plan beside it, or the .plan.json. Names are those of MODEL. What
    preparation made or folded MODEL does not have; with --prepared the encodings are for the
    prepared model, which has everything.
    """
    from qcompile.compiler.export import export_build
    from qcompile.compiler.importers.options import ImportOptions

    importing = ImportOptions(trust_model, signature, shapes)
    result = export_build(build, reference, out, form, importing, prepared=prepared)
    if not quiet:
        from qcompile.compiler.report.table_view import print_page

        with results() as stream:
            print_page(result.page(), stream)
