"""Option types and options that several verbs share."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from qcompile.compiler.cli.streams import results

if TYPE_CHECKING:
    from qcompile.compiler.report.diff_model import AnyReport

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _shapes(
    _ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> Mapping[str, tuple[int, ...]]:
    """``NAME=1,3,224,224`` as a mapping; a name may hold ``=`` itself."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in values:
        name, _, dims = text.rpartition("=")
        try:
            shape = tuple(int(d) for d in dims.split(","))
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 1:
            what = f"{text!r} is not of the form NAME=1,3,224,224 with numbers from 1"
            raise click.BadParameter(what, param=param)
        if name in shapes:
            raise click.BadParameter(f"input {name!r} is given twice", param=param)
        shapes[name] = shape
    return shapes


def output_path(_ctx: click.Context, param: click.Parameter, text: str) -> Path:
    """The path of a file to write; one that says it is a folder (``build/``) is refused."""
    if not text or text.endswith(("/", os.sep)):
        raise click.BadParameter(f"{text!r} is not the name of a file", param=param)
    return Path(text)


def given(**options: Any) -> dict[str, Any]:
    """The options that the user gave: what is left out takes the default of the Python API."""
    return {
        name: value
        for name, value in options.items()
        if not (value is None or value is False or value == {} or value == ())
    }


def existing_path(*names: str, help: str, metavar: str = "FILE") -> Decorator:  # noqa: A002
    """An option that names a file or folder to read; whoever reads it says if it is not there."""
    return click.option(*names, type=click.Path(path_type=Path), metavar=metavar, help=help)


shape_option = click.option(
    "--shape", "shapes", multiple=True, callback=_shapes, metavar="NAME=D,D,...",
    help="Fix an input's shape; repeatable.",
)  # fmt: skip


def _states(
    _ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> Mapping[str, str]:
    """``OUT=IN`` as a mapping; names must not hold ``=`` (else ``[state]`` of the file)."""
    states: dict[str, str] = {}
    for text in values:
        output, mark, into = text.partition("=")
        if not (output and mark and into) or "=" in into:
            raise click.BadParameter(f"{text!r} is not of the form OUT=IN", param=param)
        states[output] = into
    return states


state_option = click.option(
    "--state", multiple=True, callback=_states, metavar="OUT=IN",
    help="Feed output OUT back to input IN at the next sample; repeatable.",
)  # fmt: skip
trust_option = click.option(
    "--trust-model", is_flag=True, help="Read MODEL though it can run code of its own."
)
signature_option = click.option(
    "--signature", metavar="NAME", help="Which signature of a model that has several."
)


def import_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how a model that is no ONNX file is read."""
    return trust_option(signature_option(command))


threads_option = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Threads to use [all cores]."
)
_DEVICE_OPTIONS: Final = (
    click.option(
        "--device", "devices", multiple=True, metavar="DEVICE",
        help="Where to run: local, qemu:CPU, ssh:user@host, adb:SERIAL; repeatable.",
    ),
    click.option(
        "--device-timeout", metavar="TIME", help="Silence after which a device is lost [10m]."
    ),
    existing_path("--runner", help="A native program that runs models on the device."),
    click.option(
        "--device-samples", type=click.IntRange(min=1), metavar="N",
        help="Samples a device runs [all; 8 where it is emulated].",
    ),
)  # fmt: skip


def device_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where models run."""
    for option in reversed(_DEVICE_OPTIONS):
        command = option(command)
    return command


_OFF_TARGET_OPTIONS = (
    click.option(
        "--max-off-target", type=click.IntRange(min=0), metavar="N",
        help="Most nodes that leave the target's NPU or fast kernels.",
    ),
    click.option(
        "--max-sram", metavar="SIZE", help="Most working memory, 512KiB, by the NPU's tool."
    ),
    click.option("--max-cycles", metavar="N", help="Most cycles, 2M, by the NPU's tool."),
)  # fmt: skip


def off_target_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gates on what leaves the target, and on what the tool of its NPU estimates."""
    for option in reversed(_OFF_TARGET_OPTIONS):
        command = option(command)
    return command


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the whole report as JSON, with measurements."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Say when a stage ends.")


def print_results(report: "AnyReport", *, as_json: bool, quiet: bool) -> None:
    """Print a report to stdout as JSON or as a table."""
    with results() as stream:
        if as_json:
            from qcompile.compiler.report.json_view import report_json

            stream.write(report_json(report, measured=True))
        elif not quiet:
            from qcompile.compiler.report.table_view import print_report

            print_report(report, stream)
