"""Brings the runtimes' wheels for ARM64 into a folder, through the user's own pip."""

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from qcompile.core.errors import Code, QCompileError

RUNTIMES: Final = ("numpy", "onnxruntime", "ai-edge-litert")
"""Distributions that an agent can use; all of them work without their dependencies."""
_OLDEST_GLIBC: Final = 17
"""Minor version of the oldest manylinux tag for ARM64: manylinux2014 is manylinux_2_17."""
_PATIENCE_S: Final = 900


def host_runtimes() -> dict[str, str]:
    """Distribution -> the version installed here, of those an agent can use."""
    found = {}
    for name in RUNTIMES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def install(
    runtimes: Mapping[str, str], python: str, glibc: int, site: Path, scratch: Path
) -> list[Path]:
    """Install wheels for ARM64 into a folder of their own.

    Args:
        runtimes: distribution -> version.
        python: version of the Python that is to import them: ``3.11``.
        glibc: minor version of the C library there: 36 of 2.36.
        site: the folder to install into.
        scratch: an empty folder for the wheels.

    Returns:
        The wheels, sorted.

    Raises:
        QCompileError: DEVICE_NOT_PREPARED with what pip said.
    """
    tags = [f"manylinux_2_{minor}_aarch64" for minor in range(glibc, _OLDEST_GLIBC - 1, -1)]
    options = ["--no-deps", "--only-binary=:all:", "--implementation=cp"]
    options += [f"--python-version={python}", *(f"--platform={tag}" for tag in tags)]
    wanted = [f"{name}=={version}" for name, version in runtimes.items()]
    _pip(["download", *options, f"--dest={scratch}", *wanted])
    wheels = sorted(scratch.glob("*.whl"))
    offline = ["install", "--no-index", "--no-compile", f"--target={site}"]
    _pip([*offline, *options, *map(str, wheels)])
    return wheels


def _pip(arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
    try:
        done = subprocess.run(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={key: value for key, value in os.environ.items() if key != "PIP_TARGET"},
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _not_prepared(f"pip did not end: {error}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        said = said or done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise _not_prepared(f"pip failed: {said[-1].removeprefix('ERROR: ')}")


def _not_prepared(message: str) -> QCompileError:
    hint = None
    if "No module named pip" in message:
        hint = f"{sys.executable} -m ensurepip"
    return QCompileError(Code.DEVICE_NOT_PREPARED, message, hint=hint)
