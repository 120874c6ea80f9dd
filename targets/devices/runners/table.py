"""The native runners that are known."""

from typing import Final

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.runners.benchmark_model import BenchmarkModel
from qcompile.targets.devices.runners.litert_python import LitertPython
from qcompile.targets.devices.runners.perf_test import PerfTest
from qcompile.targets.devices.runners.runner import Runner

RUNNERS: Final[tuple[Runner, ...]] = (PerfTest(), LitertPython(), BenchmarkModel())
"""Each is asked in turn whether a program is it; the last goes by its name alone if need be."""

SPEAKS: Final = "qcompile-agent"
"""Word in the help of a runner that speaks the agent's protocol (``wire``) on stdin and stdout. It
is started without arguments. What comes first is a line with a number and as many bytes, the agent
in Python, which it skips; frames follow."""


def runner_of(file_name: str, help_text: str) -> Runner:
    """Which runner a program is.

    Args:
        file_name: of the program, without folders.
        help_text: all that it prints with ``--help``.

    Raises:
        QCompileError: DEVICE_UNFIT when it is none that is known.
    """
    for runner in RUNNERS:
        if runner.claims(file_name, help_text):
            return runner
    known = ", ".join(runner.name for runner in RUNNERS)
    raise QCompileError(
        Code.DEVICE_UNFIT,
        f"{file_name} is not a runner that is known",
        hint=f"known: {known}, and programs that speak the agent's protocol ({SPEAKS})",
    )
