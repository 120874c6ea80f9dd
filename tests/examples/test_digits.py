"""The digits example: its files are what its README says, and the demo builds, checks, reports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.targets.catalog import load_target
from qcompile.targets.host import host_target
from tests.house.imports import ROOT
from tests.models.running import accuracy, float_compute, optimized_ops, run, session

FOLDER = ROOT / "examples" / "digits"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The artefact that the demo wrote, and what it printed."""
    output = tmp_path_factory.mktemp("digits") / "out put" / "digits.int8.onnx"
    done = subprocess.run(
        [sys.executable, str(FOLDER / "demo.py"), str(output)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return output, done.stdout


@pytest.fixture(scope="module")
def labelled() -> tuple[np.ndarray, np.ndarray]:
    with np.load(FOLDER / "test.npz") as data:
        return data["input"].astype(np.float32) / 16, data["labels"]


def test_the_float_model_is_good(labelled: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = labelled
    assert accuracy(run(session(FOLDER / "digits.onnx"), x), labels) >= 0.99


def test_batch_normalization_is_left_for_the_compiler() -> None:
    ops = [node.op_type for node in onnx.load(FOLDER / "digits.onnx").graph.node]
    assert ops.count("BatchNormalization") == 4


def test_the_artefact_is_as_good(
    demo: tuple[Path, str], labelled: tuple[np.ndarray, np.ndarray]
) -> None:
    x, labels = labelled
    before, after = (run(session(m), x) for m in (FOLDER / "digits.onnx", demo[0]))
    assert accuracy(after, labels) >= accuracy(before, labels) - 0.006  # two pictures of 360


def test_the_artefact_is_integer(demo: tuple[Path, str], tmp_path: Path) -> None:
    """All but the stem, where this machine's target says that floats cost no time there."""
    ops = optimized_ops(demo[0], tmp_path)
    in_stem = sum(float_compute(ops).values())
    assert in_stem == (2 if load_target(host_target()).float_stem else 0)
    assert ops["QLinearConv"] == 4 - in_stem
    assert ops["BatchNormalization"] == 0


def test_the_demo_reports(demo: tuple[Path, str]) -> None:
    output, printed = demo
    report = json.loads(output.with_name(output.name + ".report.json").read_text())
    (top1,) = (m for m in report["accuracy"]["metrics"] if m["metric"] == "top-1")
    assert top1["float_value"] == pytest.approx(0.9917, abs=1e-4)
    assert "$ qcompile build digits.onnx" in printed
    assert "$ qcompile check" in printed
