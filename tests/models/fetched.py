"""Models that scripts of the models' folder make, once, in an environment that is thrown away."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

Commands = Sequence[Sequence[object]]


def cache_folder(name: str) -> Path:
    """Where something is kept between runs: under $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "qcompile-tests" / name


def made_once(name: str, packages: Sequence[str], commands: Callable[[Path], Commands]) -> Path:
    """The folder of that name in the cache, made when it is missing.

    Args:
        name: of the folder, with a version that is raised when something else is written.
        packages: what the environment has.
        commands: what its Python is called with, one after the other, to fill the given folder.
    """
    cache = cache_folder(name)
    if cache.is_dir():
        return cache
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as scratch:
        environment, out = Path(scratch) / "venv", Path(scratch) / "out"
        python = environment / "bin" / "python"
        _run(sys.executable, "-m", "venv", environment)
        _run(python, "-m", "pip", "install", "--quiet", "--no-compile", *packages)
        for command in commands(out):
            _run(python, *command)
        if not cache.exists():
            shutil.move(out, cache)
    return cache


def _run(*command: object) -> None:
    done = subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}"
