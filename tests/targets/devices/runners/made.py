"""Runners as files that can be sent: scripts that start a peer or a real tool with this Python."""

import shlex
import sys
from pathlib import Path

from tests.conftest import ROOT


def made(folder: Path, name: str, *words: str) -> Path:
    """A runner that starts this Python with ``words``; its starts are listed in ``starts``."""
    path = folder / name
    command = shlex.join([sys.executable, *words])
    path.write_text(
        f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))}; export PYTHONPATH\n"
        f"PEER_STARTS={shlex.quote(str(folder / 'starts'))}; export PEER_STARTS\n"
        f'exec {command} "$@"\n'
    )
    return path


def peer(folder: Path, kind: str, name: str | None = None) -> Path:
    """A peer of a runner."""
    return made(folder, name or kind, "-m", "tests.targets.devices.runners.peer", kind)


def starts(folder: Path) -> list[list[str]]:
    """What the peers noted: runner, folder of the model, warm-up runs, runs, cores."""
    path = folder / "starts"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []
