"""What ``make demo`` runs: the digits network built for this machine's processor, then checked.

    python examples/digits/demo.py [OUTPUT.onnx]

It prints the two commands, so that they can be pasted, and runs them in this folder.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from qcompile.targets.host import host_target

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parents[1] / "build" / "digits" / "digits.int8.onnx"


def commands(output: Path) -> list[list[str]]:
    """The two commands: build, then check with gates that fail when the build got worse."""
    build = ["build", "digits.onnx", "-t", host_target(), "-d", "calibration.npz"]
    check = ["check", str(output), "--reference", "digits.onnx", "-d", "test.npz"]
    check += ["--max-drop", "1", "--min-agreement", "0.98"]
    return [[*build, "--eval", "test.npz", "-o", str(output)], check]


def run(arguments: list[str]) -> int:
    """Run one qcompile command in this folder, where its qcompile.toml lies."""
    print(f"\n$ {shlex.join(['qcompile', *arguments])}", flush=True)
    command = [sys.executable, "-m", "qcompile.compiler.cli.main", *arguments]
    return subprocess.run(command, cwd=HERE, check=False).returncode


def main(output: Path) -> int:
    """Exit code of the first command that fails, else 0."""
    output.parent.mkdir(parents=True, exist_ok=True)
    print(f"$ cd {os.path.relpath(HERE)}")
    output = Path(os.path.relpath(output, HERE))
    return next((code for code in map(run, commands(output)) if code), 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else OUTPUT))
