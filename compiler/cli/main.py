"""The front of the command line: knows the verbs by name, loads one when it is called, and turns
every way a command can end into one message and an exit code.
"""

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Final

import click

from qcompile.compiler.cli.streams import ReaderGone, no_room, results
from qcompile.core.errors import Exit, QCompileError

_VERBS: Final = {
    "build": "Turn a float model into an integer one for a target.",
    "check": "Hold an artefact against its float model: accuracy, latency, gates.",
    "inspect": "Say what is in a model, and what of it is integer.",
    "import": "Write what the compiler sees of a model, as ONNX.",
    "diff": "Show in what two builds differ, and where they part.",
    "export": "Write the scales of a build for AIMET or ONNX Runtime's tool.",
    "targets": "List the targets, or show one with its operator table.",
    "device": "Make an emulated ARM64 machine ready, list the devices, show what one is.",
}
"""Verb -> its line in the help. Each is the command ``command`` of the module of its name."""

_MODULES: Final = {"import": "import_model"}
"""Verbs that are words of Python -> the module."""

_MATRIX_THREADS: Final = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""How many threads numpy's matrix routines take; read when numpy is imported. The samples are
spread over threads already, and where the cores are busy those of a Cholesky factorization wait
for each other in a loop: with 2,304 inputs it then takes six times as long as in one."""

_ARENA_MAX: Final = -8
"""M_ARENA_MAX of glibc's malloc.h."""

_INTERRUPTED: Final = 130
_TERMINATED: Final = 143
_BROKEN_PIPE: Final = 141
"""What a shell reports for a command that ended by SIGINT, SIGTERM, SIGPIPE."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk under a temporary file or under stdout is no fault of ours."""


class _Verbs(click.Group):
    """A group whose commands are imported when they are needed, and not for the help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module = _MODULES.get(cmd_name, cmd_name)
        command: click.Command = import_module(f"qcompile.compiler.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


def _print_version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked:
        from qcompile import __version__

        click.echo(f"qcompile {__version__}")
        ctx.exit()


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 a gate failed, 2 usage, configuration, data or output, "
    "3 model not supported, 4 runtime or device, 5 internal.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Print the version.",
)  # fmt: skip
@click.option("--traceback", is_flag=True, help="Show where an error came from (QCOMPILE_DEBUG=1).")
def cli(traceback: bool) -> None:
    """Compile float models into integer models that are proven and measured."""


def main() -> None:
    """Entry point of the console script."""
    for variable in _MATRIX_THREADS:
        os.environ.setdefault(variable, "1")
    _share_arenas()
    signal.signal(signal.SIGTERM, _on_terminate)
    sys.exit(run(sys.argv[1:]))


def _share_arenas() -> None:
    """Let all threads allocate from two of glibc's arenas; other libraries have nothing to tell.

    With an arena a thread, what one thread has freed is of no use to the others: the peaks of two
    builds of MobileNet, of few samples and of many, then lie up to 15 % apart.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a C library without mallopt
            ctypes.CDLL(None).mallopt(_ARENA_MAX, 2)


def _on_terminate(_number: int, _frame: FrameType | None) -> None:
    """End by an exception, so that temporary files go."""
    sys.exit(_TERMINATED)


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: as in ``sys.argv[1:]``.

    Returns:
        The exit code. Whatever went wrong has been said on stderr.
    """
    debug = "--traceback" in arguments or bool(os.environ.get("QCOMPILE_DEBUG"))
    try:
        code = _invoke(arguments)
        with results():
            return code
    except QCompileError as error:
        _say(f"error: {error}")
        return _end(error, error.code.exit, debug)
    except ReaderGone:
        return _BROKEN_PIPE
    except OSError as error:
        if error.errno not in _FULL:
            return _internal(error, debug)
        _say(f"error: {no_room(error)}")
        return _end(error, Exit.USAGE, debug)
    except KeyboardInterrupt:
        _say("interrupted")
        return _INTERRUPTED
    except Exception as error:  # the last resort: a fault of ours must not end in a traceback
        return _internal(error, debug)


def _invoke(arguments: Sequence[str]) -> int:
    try:
        code = cli.main(list(arguments), prog_name="qcompile", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except click.Abort as error:
        raise KeyboardInterrupt from error
    return code if isinstance(code, int) else Exit.OK


def _internal(error: Exception, debug: bool) -> int:
    _say(
        f"internal error: {type(error).__name__}: {error}\n"
        "  this is a fault of qcompile; please report it on the project's issue tracker with\n"
        "  what `qcompile --traceback ...` prints for the same command"
    )
    return _end(error, Exit.INTERNAL, debug)


def _end(error: Exception, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    return code


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
