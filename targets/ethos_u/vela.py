"""Compiles TFLite models for Arm Ethos-U by Vela, which runs as a process of its own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from qcompile.core.accelerator import Accelerator
from qcompile.core.accelerator_tool import Accelerated
from qcompile.core.errors import Code, QCompileError
from qcompile.core.scratch import no_room, scratch_folder
from qcompile.core.target import Target
from qcompile.targets.ethos_u.summary import read_offload

EXTRA: Final = "pip install 'qcompile-edge[ethos-u]'"
TIMEOUT: Final = 1800.0
"""Seconds that one compilation may take; a MobileNet takes one."""
_NAME: Final = "model"
"""Of the file that Vela is given; it stands nowhere in what comes out."""
_LAST_LINES: Final = 4


@dataclass(frozen=True)
class Vela:
    """See ``core.accelerator.AcceleratorTool``.

    Vela says "it compiled" (exit code 0) also of a model of which it took nothing; what it left
    is read from the file it wrote, and why from what it printed.
    """

    timeout: float = TIMEOUT

    def accelerate(self, artefact: bytes, target: Target) -> Accelerated:
        """Compile a TFLite file; the options of the target are Vela's own, without the dashes.

        Raises:
            QCompileError: MISSING_EXTRA without Vela; ACCELERATOR_REFUSED with Vela's last lines
                when it fails, crashes or does not end; OUTPUT_UNWRITABLE when there is no room.
        """
        accelerator = target.accelerator
        assert accelerator is not None, target.name
        name = vela_version(target.name)
        with scratch_folder() as folder:
            source, made = folder / f"{_NAME}.tflite", folder / "made"
            try:
                source.write_bytes(artefact)
            except OSError as error:
                raise no_room(error) from error
            done = self._run(source, made, accelerator, name)
            result = made / f"{_NAME}_vela.tflite"
            tables = list(made.glob(f"{_NAME}_summary_*.csv"))
            if done.returncode or not result.is_file() or len(tables) != 1:
                raise _refused(name, done)
            data = result.read_bytes()
            table = tables[0].read_text(encoding="utf-8")
        printed = f"{done.stdout}\n{done.stderr}"
        return Accelerated(data, read_offload(artefact, data, printed, table, name))

    def _run(
        self, source: Path, made: Path, accelerator: Accelerator, name: str
    ) -> "subprocess.CompletedProcess[str]":
        options = [f"--{key}={_value(key, text)}" for key, text in accelerator.options.items()]
        command = [sys.executable, "-m", "ethosu.vela", str(source)]
        command += ["--output-dir", str(made), "--show-cpu-operations", *options]
        try:
            return subprocess.run(
                command,
                cwd=source.parent,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.timeout,
                env={**os.environ, "PYTHONHASHSEED": "0"},  # its Python part goes through sets
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise QCompileError(
                Code.ACCELERATOR_REFUSED, f"{name} did not end within {self.timeout:.0f} s"
            ) from error


def vela_version(who: str) -> str:
    """Name and version of the Vela that is installed.

    Raises:
        QCompileError: MISSING_EXTRA that says who needs it, and the extra.
    """
    try:
        if find_spec("ethosu") is not None:
            return f"Vela {version('ethos-u-vela')}"
    except PackageNotFoundError:
        pass  # some other package of that name
    raise QCompileError(Code.MISSING_EXTRA, f"{who} needs Arm's compiler Vela", hint=EXTRA)


def _value(key: str, text: str) -> str:
    """An option's text; a file of the user's by its whole path, since Vela runs elsewhere."""
    return str(Path(text).absolute()) if key == "config" and Path(text).is_file() else text


def _refused(name: str, done: "subprocess.CompletedProcess[str]") -> QCompileError:
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    crashed = f"crashed (signal {-done.returncode})" if done.returncode < 0 else ""
    how = crashed or (f"ended with {done.returncode}" if done.returncode else "wrote no model")
    last = "; ".join(lines[-_LAST_LINES:]) or "it said nothing"
    return QCompileError(Code.ACCELERATOR_REFUSED, f"{name} {how}: {last}")
