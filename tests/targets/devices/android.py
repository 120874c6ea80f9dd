"""Android's shell and programs, mksh and toybox, as Debian has them: a path with nothing else."""

import shutil
import subprocess
from pathlib import Path

import pytest

NO_ANDROID = "no mksh or toybox: apt-get install mksh toybox (as .ci/run does)"


def android_path(folder: Path) -> str:
    """A PATH of toybox's programs with mksh as ``sh``, made in a folder."""
    mksh, toybox = shutil.which("mksh"), shutil.which("toybox")
    if mksh is None or toybox is None:
        pytest.skip(NO_ANDROID)
    listed = subprocess.run([toybox], capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        if name != "sh" and not (folder / name).exists():
            (folder / name).symlink_to(toybox)
    if not (folder / "sh").exists():
        (folder / "sh").symlink_to(mksh)
    return str(folder)
