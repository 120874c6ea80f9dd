"""Other tools in environments of their own, made when first asked for and kept in the cache.

The cache folder may be deleted at any time. A tool that cannot be had becomes a row that says why.
"""

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from tests.benchmarks.workshop import ROOT, Cost
from tests.models.fetched import cache_folder

PATIENCE_S = 900
"""Of one conversion or installation, unless it is told otherwise."""


@dataclass(frozen=True)
class Environment:
    """What is installed for a peer, and what is imported once so that no run has to compile it."""

    packages: tuple[str, ...]
    warm_up: str


@dataclass(frozen=True)
class Made:
    """One artefact, and what it took to make it."""

    name: str
    path: Path
    cost: Cost
    cpu: float
    """Seconds of all cores, which a busy machine stretches less than the wall time."""


class Unavailable(Exception):  # noqa: N818 - no error: it becomes a row
    """Why there is no such artefact."""


def installed(folder: Path, environment: Environment) -> Path:
    """The Python of an environment, installed when it is missing.

    Raises:
        Unavailable: it cannot be installed, or not be imported.
    """
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        command(sys.executable, "-m", "venv", "--clear", folder, folder=folder.parent)
        command(*pip, "--no-compile", *environment.packages, folder=folder)
        command(python, "-c", environment.warm_up, folder=folder)
        done.touch()
    return python


def environments_folder(version: str) -> Path:
    """Where the environments of a benchmark are kept; its version changes with their content."""
    return cache_folder(version)


def command(*words: object, folder: Path, patience: int = PATIENCE_S) -> None:
    """Run a command with its own folder on the path: onnx2tf calls onnxsim, or does without.

    Raises:
        Unavailable: with the last error of which it told.
    """
    path = f"{Path(str(words[0])).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        done = subprocess.run(
            list(map(str, words)),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"not done after {patience} s") from None
    if done.returncode:
        said = done.stdout.strip().splitlines() or [f"exit code {done.returncode}"]
        errors = [line for line in said if "error" in line.lower()]
        raise Unavailable((errors or said)[-1])


def cpu_of_children() -> float:
    """Seconds of all cores that ended children used so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def missing(title: str, reasons: dict[str, str]) -> Table:
    """What could not be measured, and why."""
    table = Table("candidate", "why", title=title)
    for name, reason in reasons.items():
        table.add_row(name, reason)
    return table
