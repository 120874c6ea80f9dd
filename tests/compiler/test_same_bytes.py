"""The same inputs give the same files, whatever the process, the processors and the place."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compiler import small
from tests.house.imports import ROOT

SURROUNDINGS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "as it is": ((), {"PYTHONHASHSEED": "0"}),
    "one thread": (("--threads", "1"), {"PYTHONHASHSEED": "1", "OPENBLAS_NUM_THREADS": "1"}),
    "two threads": (("--threads", "2"), {"PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "1"}),
    "four threads": (("--threads", "4"), {"LC_ALL": "C", "TZ": "Asia/Tokyo"}),
}


def hashes(folder: Path, scheme: str, options: tuple[str, ...], env: dict[str, str]) -> list[str]:
    folder.mkdir()
    command = [
        *(sys.executable, "-m", "qcompile.compiler.cli.main", "build"),
        *(small.DIGITS / "digits.onnx", "-o", "out.onnx", "-t", small.TARGET),
        *("-d", small.DIGITS / "calibration.npz", "--config", small.DIGITS / "qcompile.toml"),
        *("--scheme", scheme, "--no-latency", "-q", *options),
    ]
    subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **env}, check=True
    )
    names = ("out.onnx", "out.onnx.report.json", "out.onnx.plan.json", "out.onnx.plan.npz")
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


@pytest.mark.parametrize("scheme", ["w8a8", "w8a8-dynamic"])
def test_four_surroundings(tmp_path: Path, scheme: str) -> None:
    found = {
        name: hashes(tmp_path / name, scheme, options, env)
        for name, (options, env) in SURROUNDINGS.items()
    }
    assert all(h == found["as it is"] for h in found.values()), found
