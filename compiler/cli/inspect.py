"""``qcompile inspect``: what is in a model."""

from pathlib import Path

import click

from qcompile.compiler.cli.options import given, import_flags, json_option, print_results


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-t", "--target", metavar="TARGET", help="Whose integer ops to look for.")
@import_flags
@json_option
def command(
    model: Path, target: str | None, as_json: bool, trust_model: bool, signature: str | None
) -> None:
    """Say what is in MODEL, float or compiled, and what of it is integer."""
    from qcompile.compiler.api import inspect

    report = inspect(model, **given(target=target, trust_model=trust_model, signature=signature))
    print_results(report, as_json=as_json, quiet=False)
