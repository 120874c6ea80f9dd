"""What the benchmarks share: the models, a folder to build in, artefacts made once."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from tests.models import imagenet

ROOT = Path(__file__).resolve().parents[2]
OURS = "qcompile w8a8"
PEERS = (
    "ORT U8S8 per-channel",
    "ORT U8S8 per-channel, reduce_range",
    "ORT U8U8 per-channel",
    "ORT U8U8 per-tensor",
)
"""ONNX Runtime's own ``quantize_static``; ``child.peer`` has the options of each."""
RIVAL = "ORT U8S8 per-channel, reduce_range"
"""The fastest of them that does not saturate on AVX2."""
FLOAT = "float"


@dataclass(frozen=True)
class Cost:
    """What one command took: wall seconds with start-up, and peak resident memory."""

    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Candidate:
    """One artefact and what it took to make it."""

    name: str
    path: Path
    cost: Cost | None = None


@dataclass
class Workshop:
    """MobileNet, its data, and everything built from it in this run."""

    models: Path
    folder: Path
    target: str
    _made: dict[str, Candidate] = field(default_factory=dict)

    @property
    def model(self) -> Path:
        return self.models / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx"

    @cached_property
    def calibration(self) -> list[Path]:
        return imagenet.calibration(self.models)

    @cached_property
    def evaluation(self) -> tuple[np.ndarray, np.ndarray]:
        """Pictures N x 3 x 224 x 224 and labels N."""
        paths = imagenet.evaluation(self.models)
        return imagenet.load(paths), imagenet.labels(paths)

    def pictures(self, name: str, paths: Sequence[Path]) -> Path:
        """A data folder, and the qcompile.toml beside it that says how to read it."""
        (self.folder / "qcompile.toml").write_text(imagenet.CONFIG)
        folder = self.folder / name
        return folder if folder.is_dir() else imagenet.link(list(paths), folder)

    def candidates(self) -> list[Candidate]:
        """The float model, ours, and the peers', each built when first asked for."""
        return [Candidate(FLOAT, self.model), *map(self.candidate, (OURS, *PEERS))]

    def candidate(self, name: str) -> Candidate:
        """One artefact from the 125 calibration pictures."""
        if name not in self._made:
            output = self.folder / f"{len(self._made)}.onnx"
            data = self.pictures("calibration", self.calibration)
            if name == OURS:
                # with --eval, so that all 125 calibrate and none is held out
                judged = self.pictures("evaluation", imagenet.evaluation(self.models))
                cost = self.build(data, output, "--eval", str(judged))
            else:
                cost = self.child("peer", name, str(self.model), str(data), str(output))
            self._made[name] = Candidate(name, output, cost)
        return self._made[name]

    def build(self, data: Path, output: Path, *options: str) -> Cost:
        """Run ``qcompile build`` on MobileNet with the gates' settings."""
        arguments = ["build", str(self.model), "-t", self.target, "-d", str(data)]
        arguments += ["-o", str(output), "--scheme", "w8a8", "--effort", "fast", "--no-latency"]
        return self.child("qcompile", *arguments, *options)

    def child(self, *arguments: str) -> Cost:
        """Run one job of ``child.py`` in its own process.

        The peak is the child's VmHWM, read by itself: a parent's count of a child starts at the
        parent's own size.
        """
        note = self.folder / "cost.json"
        command = [sys.executable, "-m", "tests.benchmarks.child", str(note), *arguments]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}")
        return Cost(**json.loads(note.read_text()))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
