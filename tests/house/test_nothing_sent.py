"""A build leaves nothing in the user's folders but what was asked for, and reports to no one."""

import os
import subprocess
import sys
from pathlib import Path

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def test_a_build_leaves_no_trace(tmp_path: Path) -> None:
    """ONNX Runtime's reports to its maker begin with files in HOME and TMPDIR."""
    home, scratch, out = (tmp_path / name for name in ("home", "scratch", "out"))
    for folder in (home, scratch, out):
        folder.mkdir()
    kept = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-m", "qcompile.compiler.cli.main", "build"]
    command += [
        str(DIGITS / "digits.onnx"),
        "-d",
        str(DIGITS / "calibration.npz"),
        "-o",
        str(out / "m.onnx"),
        "-q",
    ]
    environment = {**kept, "HOME": str(home), "TMPDIR": str(scratch), "XDG_CACHE_HOME": ""}
    subprocess.run(
        [*command, "--effort", "fast", "--no-latency"], check=True, env=environment, cwd=out
    )
    assert [str(path) for folder in (home, scratch) for path in folder.rglob("*")] == []
    assert sorted(path.suffix for path in out.iterdir()) == [".json", ".json", ".npz", ".onnx"]
