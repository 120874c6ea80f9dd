"""``qcompile import``: what the compiler sees of a model."""

from pathlib import Path

import click

from qcompile.compiler.cli.options import import_flags, output_path, quiet_option, shape_option
from qcompile.compiler.cli.streams import results


@click.command("import")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, callback=output_path, metavar="OUT", help="The file to write."
)
@click.option(
    "--prepared", is_flag=True, help="Write the graph that scales are chosen for: folded, float."
)
@click.option("-t", "--target", metavar="TARGET", help="Whom to prepare it for [this machine].")
@shape_option
@import_flags
@quiet_option
def command(
    model: Path,
    out: Path,
    prepared: bool,
    target: str | None,
    shapes: dict[str, tuple[int, ...]],
    trust_model: bool,
    signature: str | None,
    quiet: bool,
) -> None:
    """Write what the compiler sees of MODEL as ONNX, and say what is in it.

    MODEL is of any format that build takes. Scales of a model that is quantized already stand in
    it as QuantizeLinear and DequantizeLinear; --prepared takes them out.
    """
    from qcompile.compiler.import_model import import_model
    from qcompile.compiler.importers.options import ImportOptions

    importing = ImportOptions(trust_model, signature, shapes)
    result = import_model(str(model), out, importing, prepared=prepared, target=target)
    if not quiet:
        from qcompile.compiler.report.table_view import print_page

        with results() as stream:
            print_page(result.page(), stream)
