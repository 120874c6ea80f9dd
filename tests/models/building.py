"""Builds an artefact the way a user does, by the command line, and reads what it reported."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = "ort-x86-avx2"
"""The gates hold on the target with the least headroom: its kernels saturate."""

EFFORTS = ("fast", "balanced")
"""Those that the gates of accuracy are held under; ``max`` starts from what ``balanced`` found."""


@dataclass(frozen=True)
class Built:
    """One build: the artefact, its report, and how long the command took."""

    path: Path
    report: dict[str, Any]
    seconds: float
    stderr: str


def build(
    model: Path,
    data: Path | None,
    folder: Path,
    *,
    evaluation: Path | None = None,
    config: str = "",
    target: str = TARGET,
    options: tuple[str, ...] = (),
    effort: str = "fast",
) -> Built:
    """Run ``qcompile build`` in ``folder``; a failure shows what the command said.

    Args:
        model: the float model.
        data: calibration data; None for a build that needs none.
        folder: empty; gets the artefact, the report and qcompile.toml.
        evaluation: data to report accuracy on.
        config: text of qcompile.toml.
        target: name of the target.
        options: more flags.
        effort: ``fast`` unless a gate is about what a search finds.
    """
    if config:
        (folder / "qcompile.toml").write_text(config)
    output = folder / f"{model.stem}.int8.onnx"
    command = [sys.executable, "-m", "qcompile.compiler.cli.main", "build", str(model)]
    command += ["-t", target, "-o", str(output)]
    if data is not None:
        command += ["-d", str(data)]
    command += ["--scheme", "w8a8", "--effort", effort, "--no-latency", *options]
    if evaluation is not None:
        command += ["--eval", str(evaluation)]
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    seconds = time.perf_counter() - start
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stderr}"
    report = json.loads(output.with_name(output.name + ".report.json").read_text())
    return Built(output, report, seconds, done.stderr)
